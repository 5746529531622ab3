"""Make masks without looking at the picture: baselines of referring segmentation.

Flow: size of a picture -> BlindMasks.draw -> masks, scored like those of an answer (benchmarks/expressions.py).
Shapes: H W picture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]  # H, W px
CENTER_SIDES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the picture's sides, from which the best is chosen on training data
NUM_BOXES = 20


def whole_picture(size: Size) -> NDArray[np.bool_]:
    """Return a mask of the whole picture."""
    return np.ones(size, bool)


def center_box(size: Size, side: float) -> NDArray[np.bool_]:
    """Return a centered box whose sides are a share of the picture's."""
    mask = np.zeros(size, bool)
    top, left = (round(length * (1 - side) / 2) for length in size)
    mask[top : size[0] - top, left : size[1] - left] = True
    return mask


def largest_random_box(size: Size, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the largest of NUM_BOXES random boxes; both corners are uniform."""
    rows, columns = (np.sort(rng.integers(0, length + 1, (NUM_BOXES, 2)), axis=1) for length in size)
    best = int(((rows[:, 1] - rows[:, 0]) * (columns[:, 1] - columns[:, 0])).argmax())
    mask = np.zeros(size, bool)
    mask[rows[best, 0] : rows[best, 1], columns[best, 0] : columns[best, 1]] = True
    return mask


@dataclass(frozen=True)
class BlindMasks:
    """Masks that are made without looking: baselines of referring segmentation.

    Attributes:
        center_side: side of the centered box, as a share of the picture's.
        seed: of the random boxes.
    """

    center_side: float = 0.7
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return (
            "the whole picture",
            f"the center box, {self.center_side:.0%} of each side",
            f"the largest of {NUM_BOXES} random boxes",
        )

    def draw(self, size: Size, number: int) -> tuple[NDArray[np.bool_], ...]:
        """Return the masks of expression `number` in the order of `names`, (H, W) each."""
        rng = np.random.default_rng([self.seed, number])
        return whole_picture(size), center_box(size, self.center_side), largest_random_box(size, rng)
