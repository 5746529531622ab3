"""Count how often the tracks of objects change hands.

Flow: evaluation/long.py -> SwitchCounter.update, frame by frame -> number of switches.
Source: identity switches of CLEAR MOT, Bernardin and Stiefelhagen, 2008; masks instead of boxes, so that a match
    needs an IoU above 0.5, and no true masks that share pixels: then no predicted one fits two of them.
Shapes: P predicted masks, G true masks, H W picture.
"""

import numpy as np
from numpy.typing import NDArray

from sa2va.metrics.iou import intersection_union, ratio

MATCH = 0.5  # IoU above which a predicted mask covers a true one


class SwitchCounter:
    """Who covered each object last, and how often that has changed."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}  # true object -> predicted track
        self.num_switches = 0
        self.num_matches = 0

    def update(self, pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> None:
        """Take in one frame. A track that covered an object before keeps it while it covers it still.

        Args:
            pred: (P, H, W), row = track.
            target: (G, H, W), row = object.
        """
        for row, mask in enumerate(target):
            if not len(pred) or not mask.any():
                continue
            overlap = ratio(*intersection_union(pred, np.broadcast_to(mask, pred.shape)))  # (P,)
            last = self._last.get(row)
            if last is not None and overlap[last] > MATCH:
                self.num_matches += 1
            elif overlap.max() > MATCH:
                self.num_matches += 1
                self._last[row] = int(overlap.argmax())
                self.num_switches += last is not None
