"""Represent a trial: one person's scanpath over one image with the expression, target and speech timing.

Flow: datasets/*.py -> Trial (-> on_canvas) -> evaluation, training, statistics.py; split_folds makes folds by image.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sa2va.gaze.letterbox import CANVAS, Letterbox
from sa2va.gaze.metrics.target import Box
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.timing import SpeechTiming


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recorded scanpath. Positions in px of the stimulus as shown, times in ms on the scanpath's clock."""

    scanpath: Scanpath
    case: str  # identifies the image and expression, shared by all people who saw them
    subject: str
    expression: str = ""  # spoken expression or search category; "" for free viewing
    target: Box | None = None  # x0, y0, x1, y1
    timing: SpeechTiming | None = None  # of the words
    noun: tuple[float, float] | None = None  # onset and end of the target's noun
    ended: float | None = None  # time of the button press
    native_speaker: bool | None = None
    correct: bool = True
    photo: str = ""  # identifies the photo if several expressions share it

    @property
    def picture(self) -> str:
        """Identifier of the image, the unit that is never split between training and test."""
        return self.photo or self.scanpath.image or self.case


def group_cases(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Group trials by case, in input order."""
    cases: dict[str, list[Trial]] = {}
    for trial in trials:
        cases.setdefault(trial.case, []).append(trial)
    return cases


def on_canvas(trial: Trial) -> Trial:
    """Convert a trial to the canvas of 512 x 320 px that metrics and models use."""
    path = trial.scanpath
    box = Letterbox(image_size=(path.width, path.height))
    target = trial.target
    if target is not None:
        (x0, y0), (x1, y1) = box.to_canvas([target[:2], target[2:]]).tolist()
        target = max(x0, 0.0), max(y0, 0.0), min(x1, float(CANVAS[0])), min(y1, float(CANVAS[1]))
    return replace(trial, scanpath=box.scanpath_to_canvas(path), target=target)


def split_folds(trials: Sequence[Trial], num_folds: int = 5) -> list[tuple[list[Trial], list[Trial]]]:
    """Split trials into cross-validation folds by image.

    Args:
        trials: Trials of at least `num_folds` images.
        num_folds: At least 2.

    Returns:
        Training and test trials of each fold; deterministic in the set of images.
    """
    pictures = sorted({trial.picture for trial in trials})
    if not 2 <= num_folds <= len(pictures):
        raise ValueError(f"folds: {num_folds} over {len(pictures)} images, expected 2..{len(pictures)} folds")
    fold_of = {picture: place % num_folds for place, picture in enumerate(pictures)}
    return [
        (
            [trial for trial in trials if fold_of[trial.picture] != fold],
            [trial for trial in trials if fold_of[trial.picture] == fold],
        )
        for fold in range(num_folds)
    ]
