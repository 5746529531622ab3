"""Hold one person's look at one picture with what was asked of them.

Flow: datasets/*.py -> Trial (-> on_canvas) -> evaluation (people to compare with), training, statistics.py;
    split_folds where a few pictures are all there is.
Shapes: none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sa2va.gaze.letterbox import CANVAS, Letterbox
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
    photo: str = ""  # the same for all expressions about one photo; "" where no photo has two

    @property
    def picture(self) -> str:
        """What must not be split between training and test."""
        return self.photo or self.scanpath.image or self.case


def group_cases(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Put together the trials of one case, in the order of the input."""
    cases: dict[str, list[Trial]] = {}
    for trial in trials:
        cases.setdefault(trial.case, []).append(trial)
    return cases


def on_canvas(trial: Trial) -> Trial:
    """The trial as metrics and models see it: its picture fitted into the canvas of 512 x 320 px."""
    path = trial.scanpath
    box = Letterbox(image_size=(path.width, path.height))
    target = trial.target
    if target is not None:
        (x0, y0), (x1, y1) = box.to_canvas([target[:2], target[2:]]).tolist()
        target = max(x0, 0.0), max(y0, 0.0), min(x1, float(CANVAS[0])), min(y1, float(CANVAS[1]))
    return replace(trial, scanpath=box.scanpath_to_canvas(path), target=target)


def split_folds(trials: Sequence[Trial], num_folds: int = 5) -> list[tuple[list[Trial], list[Trial]]]:
    """Cut trials into folds by picture, so that nothing is scored on a picture that was learned from.

    Args:
        trials: at least as many pictures as folds.
        num_folds: at least 2.

    Returns:
        For each fold, the trials to learn from and those to score; the same for the same pictures.
    """
    pictures = sorted({trial.picture for trial in trials})
    if not 2 <= num_folds <= len(pictures):
        raise ValueError(f"folds: {num_folds} of {len(pictures)} pictures, expected 2..{len(pictures)} folds")
    fold_of = {picture: place % num_folds for place, picture in enumerate(pictures)}
    return [
        (
            [trial for trial in trials if fold_of[trial.picture] != fold],
            [trial for trial in trials if fold_of[trial.picture] == fold],
        )
        for fold in range(num_folds)
    ]
