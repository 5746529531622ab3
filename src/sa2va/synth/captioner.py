"""Define what writes and what checks expressions: the protocols of captioners and checkers.

Flow: engine.py with views of objects -> Captioner.caption, one level after the other -> Part -> Checker.check ->
    Verdict -> accepted parts -> Captioner.merge -> long caption. local.py and remote.py have one of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sa2va.synth.views import View

OBJECT, SCENE, VIDEO = "object", "scene", "video"
LEVELS = (OBJECT, SCENE, VIDEO)
LARGEST, FIRST, CLIP = "largest", "first", "clip"  # what a checker looks at: the largest frame, the first one, or all


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a captioner writes about one object at one level.

    Attributes:
        text: sentence of the long caption.
        expression: short expression for the object, which is checked; "" = the level adds none.
        checked: the expression in words that fit what the checker looks at; "" = as it is.
        look: LARGEST, FIRST or CLIP, what the expression is about.
        problem: why the captioner itself rejects the part; "" = it does not.
    """

    text: str
    expression: str = ""
    checked: str = ""
    look: str = LARGEST
    problem: str = ""

    @property
    def request(self) -> str:
        """Expression that the checker is given."""
        return self.checked or self.expression


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a checker says about an expression.

    Attributes:
        problem: why it is rejected; "" = accepted.
        iou: of the found mask with the object's, 0..1; None = not measured.
        presence: 0..1; None = not measured.
    """

    problem: str = ""
    iou: float | None = None
    presence: float | None = None

    def and_then(self, later: "Verdict") -> "Verdict":
        """Return the verdict of two checkers: the problem of the later one, and what either measured first."""
        return Verdict(
            problem=later.problem,
            iou=later.iou if self.iou is None else self.iou,
            presence=later.presence if self.presence is None else self.presence,
        )


Parts = Mapping[str, Part]  # by level


class Captioner(Protocol):
    """Writes about objects from pixels, in its own words."""

    @property
    def name(self) -> str:
        """Identity, which decides whether stored answers are still valid."""
        ...

    def caption(self, level: str, views: Sequence[View], earlier: Sequence[Parts]) -> list[Part | None]:
        """Write about objects at one level.

        Args:
            level: one of LEVELS.
            views: the objects, of one or several clips.
            earlier: per object, its parts of the levels before.

        Returns:
            A part per object; None = nothing to say at this level.
        """
        ...

    def merge(self, parts: Sequence[Parts]) -> list[str]:
        """Merge the accepted parts of each object to one long caption; "" = there is none."""
        ...


class Checker(Protocol):
    """Looks a second time: does an expression mean the object, and only it?"""

    @property
    def name(self) -> str:
        """Identity, which decides whether stored answers are still valid."""
        ...

    @property
    def step(self) -> str:
        """Name of the step in the journal; distinct among the checkers of a run."""
        ...

    def check(self, views: Sequence[View], parts: Sequence[Part]) -> list[Verdict]:
        """Check the expression of a part per object."""
        ...
