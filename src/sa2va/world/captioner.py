"""Caption objects of drawn clips with the embedded model, in the English of the drawn world, from pixels alone.

Flow: synth/engine.py -> DrawnCaptioner.caption: the questions that the model was trained on, and its answers put into
    the grammar of referring expressions -> synth Parts. Nothing of the scene's own record is known here.
Shapes: K frames of a view, H W picture.
"""

from collections.abc import Sequence

from sa2va.inference.requests import Request
from sa2va.metrics.text import exact_match, normalize
from sa2va.synth.captioner import CLIP, FIRST, OBJECT, SCENE, Part, Parts
from sa2va.synth.local import DISAGREE, LocalCaptioner
from sa2va.synth.views import View
from sa2va.world.language.descriptions import parse_descriptions
from sa2va.world.language.grammar import MODIFIERS, PLACES, Attributes, with_article

DESCRIBE, PLACE, MOTION, WHO = "Describe region1.", "Where is the {}?", "What does the {} do?", "Which object {}?"
CELLS = PLACES | {"center": PLACES["middle"]}  # an answer to PLACE -> its words in an expression
STILL = "stays still"


def read_name(text: str) -> str:
    """Return the description of one object as words, "small striped red circle"; "" if there is none."""
    found = parse_descriptions(text)
    if len(found) != 1:
        return ""
    words = {name: None if word == "plain" else word for name, word in found[0].items()}
    return " ".join(Attributes(**words).to_words())


class DrawnCaptioner(LocalCaptioner):
    """Captions of the embedded model."""

    def caption(self, level: str, views: Sequence[View], earlier: Sequence[Parts]) -> list[Part | None]:
        """Ask about the object of each view. See `sa2va.synth.captioner.Captioner`."""
        if level == OBJECT:
            return self._describe(views)
        names = [one[OBJECT].expression.removeprefix("the ") for one in earlier]
        return self._locate(views, names) if level == SCENE else self._narrate(views, names)

    def _describe(self, views: Sequence[View]) -> list[Part | None]:
        """Describe each object in its frame and alone."""
        first = self.ask(Request(view.frame, DESCRIBE, [view.mask]) for view in views)
        second = self.ask(Request(view.alone(), DESCRIBE, [view.mask]) for view in views)
        parts: list[Part | None] = []
        for one, other in zip(map(read_name, first), map(read_name, second), strict=True):
            problem = "" if one == other else f"{DISAGREE}: {other!r}"
            text = f"The object is {with_article(one)}." if one else ""
            parts.append(Part(text=text, expression=f"the {one}", problem=problem) if one else None)
        return parts

    def _locate(self, views: Sequence[View], names: Sequence[str]) -> list[Part | None]:
        """Say where each object is on the first frame, if it is there."""
        shown = [index for index, view in enumerate(views) if view.masks[0].any()]
        asked = [(views[index].frames[0], names[index]) for index in shown]
        cells = self.ask(Request(frame, PLACE.format(name)) for frame, name in asked)
        parts: list[Part | None] = [None] * len(views)
        for index, cell in zip(shown, map(normalize, cells), strict=True):
            if cell in CELLS:
                where = f"the {names[index]} {CELLS[cell]}"
                text, expression = f"At the start it is {CELLS[cell]}.", f"{where} at the start"
                parts[index] = Part(text=text, expression=expression, checked=where, look=FIRST)
        return parts

    def _narrate(self, views: Sequence[View], names: Sequence[str]) -> list[Part | None]:
        """Say what each object does, and ask the other way round which object does that."""
        said = self.ask(Request(view.frames, MOTION.format(name)) for view, name in zip(views, names, strict=True))
        does = [text.lower().removeprefix("it ").strip() for text in said]
        known = [index for index, verb in enumerate(does) if tuple(f"that {verb}".split()) in MODIFIERS]
        second = self._look_again(
            [views[index] for index in known], [names[i] for i in known], [does[i] for i in known]
        )
        parts: list[Part | None] = [None] * len(views)
        for index, problem in zip(known, second, strict=True):
            parts[index] = Part(
                text=f"It {does[index]}.",
                expression=f"the {names[index]} that {does[index]}",
                look=CLIP,
                problem=problem,
            )
        return parts

    def _look_again(self, views: Sequence[View], names: Sequence[str], does: Sequence[str]) -> list[str]:
        """Return why a second look contradicts what objects do: whoever moves so, or places at start and end."""
        moving = [index for index, verb in enumerate(does) if verb != STILL]
        resting = [index for index, verb in enumerate(does) if verb == STILL]
        problems = [""] * len(views)
        who = self.ask(Request(views[index].frames, WHO.format(does[index])) for index in moving)
        for index, answer in zip(moving, who, strict=True):
            if read_name(answer) != names[index]:
                problems[index] = f"{DISAGREE}: {answer!r:.80}"
        ends = [Request(views[i].frames[end], PLACE.format(names[i])) for i in resting for end in (0, -1)]
        places = self.ask(ends)
        for index, first, last in zip(resting, places[::2], places[1::2], strict=True):
            if not exact_match(first, last):
                problems[index] = f"{DISAGREE}: first {first!r:.40}, at last {last!r:.40}"
        return problems
