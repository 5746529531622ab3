"""Hold one person's look at one picture with what was asked of them.

Flow: datasets/*.py -> Trial -> evaluation (people to compare with), training, statistics.py.
Shapes: none.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sa2va.gaze.metrics.target import Box
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.timing import SpeechTiming


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recorded scanpath. Places in px of the stimulus as it was shown, times in ms on the scanpath's clock."""

    scanpath: Scanpath
    case: str  # the same for all people who saw this picture with this expression
    subject: str
    expression: str = ""  # what was said or searched for; "" for free viewing
    target: Box | None = None  # x0, y0, x1, y1
    timing: SpeechTiming | None = None  # of the words
    noun: tuple[float, float] | None = None  # when the noun of the target begins and ends
    ended: float | None = None  # when the person pressed the button
    native_speaker: bool | None = None
    correct: bool = True


def group_cases(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Put together the trials of one case, in the order of the input."""
    cases: dict[str, list[Trial]] = {}
    for trial in trials:
        cases.setdefault(trial.case, []).append(trial)
    return cases
