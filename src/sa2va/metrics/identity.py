"""Count identity switches of tracks.

Flow: world/benchmarks/long.py -> SwitchCounter.update per frame -> number of switches.
Source: CLEAR MOT, Bernardin and Stiefelhagen, 2008, with masks instead of boxes. A match is an IoU
    above 0.5. True masks must be disjoint, so that a predicted mask matches at most one of them.
Shapes: P predicted masks, G true masks, H W picture.
"""

import numpy as np
from numpy.typing import NDArray

from sa2va.metrics.iou import intersection_union, ratio

MATCH = 0.5  # IoU above which a predicted mask matches a true one


class SwitchCounter:
    """Counter of identity switches: how often the track that matches an object changes."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}  # true object -> predicted track
        self.num_switches = 0
        self.num_matches = 0

    def update(self, pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> None:
        """Add one frame. An object stays with its last track while that still matches.

        Args:
            pred: (P, H, W) bool, row = track.
            target: (G, H, W) bool, row = object.
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
