"""Score one mask track frame by frame: J, F, pixel accuracy and robustness, in constant memory.

Flow: evaluation/ decodes a frame of the answer and of the truth -> ClipScore.update -> means over frames;
    J and F of an object over frames -> series_statistics (recall and decay of DAVIS).
Source: J, F, recall and decay: DAVIS, Perazzi et al., CVPR 2016, and DAVIS 2017, arXiv:1704.00675. Accuracy and
    robustness: VISA, arXiv:2407.11325 (ReVOS), R2-VOS, arXiv:2207.01203.
Shapes: T frames, H W picture.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.metrics.boundary import boundary_f
from sa2va.metrics.iou import overlap, ratio

RECALL = 0.5  # above it, a frame counts as recalled
NUM_PARTS = 4  # decay compares the first with the last
FOREGROUND_EPSILON = 1e-6  # px, as in the published code


class ClipScore:
    """Scores of one predicted track against one true track, a few numbers per frame.

    Attributes:
        j: IoU of each frame so far, 1 if both masks are empty.
        f: contour accuracy of each frame so far.
    """

    def __init__(self) -> None:
        self.j: list[float] = []
        self.f: list[float] = []
        self._accuracy = 0.0
        self._robustness = 0.0
        self._num_foregrounds = 0

    @property
    def num_frames(self) -> int:
        return len(self.j)

    def update(
        self, pred: NDArray[np.bool_], target: NDArray[np.bool_], foreground: NDArray[np.bool_] | None = None
    ) -> None:
        """Add one frame.

        Args:
            pred: (H, W) bool, empty where the model found nothing.
            target: (H, W) bool.
            foreground: (H, W) bool, every object of the clip in this frame; only robustness needs it.

        Raises:
            ValueError: the masks differ in shape.
        """
        counts = overlap(pred, target)
        self.j.append(float(ratio(counts.intersection, counts.union)))
        self.f.append(float(boundary_f(pred, target)))
        self._accuracy += 1 - (counts.union - counts.intersection) / np.size(target)
        if foreground is not None:
            invented = counts.pred - counts.intersection
            known = int(np.count_nonzero(foreground))
            self._robustness += max(1 - invented / (known + FOREGROUND_EPSILON), 0.0)
            self._num_foregrounds += 1

    def means(self) -> dict[str, float]:
        """Average over frames.

        Returns:
            "j", "f", "jf", "accuracy" (share of pixels that agree) and, if each frame had a foreground, "robustness":
            1 - invented pixels / foreground pixels, at least 0. All 0..1.

        Raises:
            ValueError: no frame was added.
        """
        if not self.j:
            raise ValueError("a clip without frames has no score")
        j, f = float(np.mean(self.j)), float(np.mean(self.f))
        found = {"j": j, "f": f, "jf": (j + f) / 2, "accuracy": self._accuracy / self.num_frames}
        if self._num_foregrounds == self.num_frames:
            found["robustness"] = self._robustness / self.num_frames
        return found


class SeriesStatistics(NamedTuple):
    """Statistics of DAVIS over the frames of one object, 0..1."""

    mean: float
    recall: float  # share of frames above 0.5
    decay: float  # mean of the first quarter minus that of the last


def series_statistics(values: ArrayLike, *, whole: bool = False) -> SeriesStatistics:
    """Compute mean, recall and decay of J or F over frames, as in DAVIS.

    Args:
        values: (T,), 0..1.
        whole: False leaves out the first and the last frame, as the official evaluation does.

    Raises:
        ValueError: no frame is left.
    """
    series = np.asarray(values, float)
    counted = series if whole else series[1:-1]
    if not len(counted):
        raise ValueError(f"DAVIS scores need at least {1 if whole else 3} frames, got {len(series)}")
    # Quarters share their border frames. The official code counts in bytes, which wraps beyond 255 frames.
    ends = np.round(np.linspace(1, len(counted), NUM_PARTS + 1) + 1e-10).astype(int) - 1
    first, last = counted[ends[0] : ends[1] + 1], counted[ends[-2] : ends[-1] + 1]
    return SeriesStatistics(float(counted.mean()), float((counted > RECALL).mean()), float(first.mean() - last.mean()))
