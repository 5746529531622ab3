"""Make gaze on the drawn world: people who listen to an expression and look for what it means, without end.

Flow: (seed, split, index, subject) -> make_viewing -> Viewing: a Trial as any dataset has it, and the truth behind
    it; read_world -> the trials of many cases.
Shapes: K fixations.
"""

from dataclasses import dataclass
from zlib import crc32

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.simulator.cases import LETTERBOX, Case, make_case
from sa2va.gaze.simulator.observers import Observer, draw_observer
from sa2va.gaze.simulator.viewing import Step, look
from sa2va.gaze.trial import Trial

NUM_PEOPLE = 220  # as many as in RefCOCO-Gaze; any number makes a person, these are the ones read_world shows
PEOPLE_PER_CASE = 10


@dataclass(frozen=True, kw_only=True)
class Viewing:
    """One scanpath of the drawn world with everything that made it."""

    trial: Trial  # px of the picture, which is `case.frame`
    case: Case
    observer: Observer
    steps: tuple[Step, ...]  # (K,) px of the canvas


def make_viewing(seed: int, split: str, index: int, subject: int) -> Viewing:
    """Let one person look at one item, always in the same way for the same arguments.

    Args:
        seed: of the drawn world, its people included, >= 0.
        split: "train" never shows a held-out pair of colour and shape; any other name is another split.
        index: item of the split, >= 0.
        subject: number of the person, >= 0; the same person in every split.
    """
    case, observer = make_case(seed, split, index), draw_observer(seed, subject)
    steps = tuple(look(case.view, observer, [seed, crc32(split.encode()), index, subject]))
    fixations = [step.fixation for step in steps]
    shown = Scanpath.from_timing(
        fixations, case.expression.words, case.timing, width=CANVAS[0], height=CANVAS[1], image=case.name
    )
    trial = Trial(
        scanpath=LETTERBOX.scanpath_to_image(shown),
        case=case.name,
        subject=str(subject),
        expression=case.expression.text,
        target=case.boxes[case.target],
        timing=case.timing,
        noun=case.noun,
        ended=fixations[-1].start + fixations[-1].duration,
    )
    return Viewing(trial=trial, case=case, observer=observer, steps=steps)


def read_world(
    *, seed: int = 0, split: str = "val", num_cases: int = 300, people_per_case: int = PEOPLE_PER_CASE
) -> list[Trial]:
    """Make the trials of the first cases of a split.

    Args:
        seed: of the drawn world, >= 0.
        split: any name.
        num_cases: how many expressions.
        people_per_case: how many of NUM_PEOPLE see each; every person sees about as many cases.

    Raises:
        ValueError: a number is out of its range.
    """
    if num_cases < 1 or not 1 <= people_per_case <= NUM_PEOPLE:
        raise ValueError(
            f"world gaze: {num_cases} cases with {people_per_case} people each, expected at least 1 and 1..{NUM_PEOPLE}"
        )
    return [
        make_viewing(seed, split, index, (index * people_per_case + place) % NUM_PEOPLE).trial
        for index in range(num_cases)
        for place in range(people_per_case)
    ]
