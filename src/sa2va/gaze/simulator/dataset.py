"""Simulate trials of object referral: observers search a drawn scene for the object of a spoken expression.

Flow: (seed, split, index, subject) -> make_viewing -> Viewing: a Trial with its ground truth; read_simulated -> the
    trials of many cases.
Shapes: K fixations.
"""

from dataclasses import dataclass
from zlib import crc32

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.simulator.cases import LETTERBOX, Case, make_case
from sa2va.gaze.simulator.observers import Observer, draw_observer
from sa2va.gaze.simulator.viewing import Step, simulate_scanpath
from sa2va.gaze.trial import Trial

NUM_PEOPLE = 220  # observers of read_simulated, as many as in RefCOCO-Gaze; make_viewing takes any subject
PEOPLE_PER_CASE = 10


@dataclass(frozen=True, kw_only=True)
class Viewing:
    """One simulated trial with the case, observer and steps that generated it."""

    trial: Trial  # px of `case.frame`
    case: Case
    observer: Observer
    steps: tuple[Step, ...]  # (K,) px of the canvas


def make_viewing(seed: int, split: str, index: int, subject: int) -> Viewing:
    """Simulate one observer viewing one case, deterministically.

    Args:
        seed: Random seed of scenes and observers, >= 0.
        split: "train" never shows a held-out pair of color and shape; any other name is another split.
        index: Item of the split, >= 0.
        subject: Index of the observer, >= 0; the same observer in every split.
    """
    case, observer = make_case(seed, split, index), draw_observer(seed, subject)
    steps = tuple(simulate_scanpath(case.stimulus, observer, [seed, crc32(split.encode()), index, subject]))
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


def read_simulated(
    *, seed: int = 0, split: str = "val", num_cases: int = 300, people_per_case: int = PEOPLE_PER_CASE
) -> list[Trial]:
    """Simulate the trials of the first cases of a split.

    Args:
        seed: Random seed of scenes and observers, >= 0.
        split: Any name.
        num_cases: Number of expressions.
        people_per_case: Observers per expression, out of NUM_PEOPLE; each sees about the same number of cases.

    Raises:
        ValueError: an argument is out of range.
    """
    if num_cases < 1 or not 1 <= people_per_case <= NUM_PEOPLE:
        raise ValueError(
            f"simulated gaze: {num_cases} cases with {people_per_case} people each, "
            f"expected at least 1 case and 1..{NUM_PEOPLE} people"
        )
    return [
        make_viewing(seed, split, index, (index * people_per_case + place) % NUM_PEOPLE).trial
        for index in range(num_cases)
        for place in range(people_per_case)
    ]
