"""Convert places between a picture and a canvas that shows the whole of it, centred between bars.

Flow: raw gaze data (screen px) <-> scanpath in px of the image <-> the canvas of a metric or a model.
Source: RefCOCO-Gaze shows photos on a screen of 1680 x 1050 px and scores them on 512 x 320, the same shape.
Shapes: K points, x before y.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.gaze.scanpath import Scanpath

SCREEN = (1680, 1050)  # px, width and height of the screen of RefCOCO-Gaze and COCO-Search18
CANVAS = (512, 320)  # px, what scanpath metrics are published on


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """A picture made as large as fits into a canvas, shape kept, in the middle."""

    image_size: tuple[int, int]  # px, width and height
    canvas_size: tuple[int, int] = CANVAS

    def __post_init__(self) -> None:
        if min(*self.image_size, *self.canvas_size) < 1:
            raise ValueError(f"letterbox: {self.image_size} in {self.canvas_size} px, expected sizes of at least 1 px")

    @property
    def exact_scale(self) -> Fraction:
        """Canvas px per image px, without rounding: where the picture touches the canvas there is no bar at all."""
        return min(Fraction(canvas, image) for canvas, image in zip(self.canvas_size, self.image_size, strict=True))

    @property
    def scale(self) -> float:
        """Canvas px per image px, the same in x and y."""
        return float(self.exact_scale)

    @property
    def offset(self) -> NDArray[np.float64]:
        """(2,) canvas px left of and above the picture."""
        pairs = zip(self.canvas_size, self.image_size, strict=True)
        return np.array([float((canvas - image * self.exact_scale) / 2) for canvas, image in pairs])

    def to_canvas(self, points: ArrayLike) -> NDArray[np.float64]:
        """Image px -> canvas px, (K, 2) -> (K, 2)."""
        return np.asarray(points, float).reshape(-1, 2) * self.scale + self.offset

    def to_image(self, points: ArrayLike) -> NDArray[np.float64]:
        """Canvas px -> image px, (K, 2) -> (K, 2)."""
        return (np.asarray(points, float).reshape(-1, 2) - self.offset) / self.scale

    def scanpath_to_canvas(self, scanpath: Scanpath) -> Scanpath:
        """A scanpath over the image, seen on the canvas.

        Raises:
            ValueError: the scanpath is over a picture of another size.
        """
        _expect_size(scanpath, self.image_size)
        return scanpath.moved(self.to_canvas(scanpath.points), *self.canvas_size)

    def scanpath_to_image(self, scanpath: Scanpath) -> Scanpath:
        """A scanpath over the canvas, in px of the image; fixations on a bar lie outside it.

        Raises:
            ValueError: the scanpath is over a canvas of another size.
        """
        _expect_size(scanpath, self.canvas_size)
        return scanpath.moved(self.to_image(scanpath.points), *self.image_size)


def _expect_size(scanpath: Scanpath, size: tuple[int, int]) -> None:
    if (scanpath.width, scanpath.height) != size:
        raise ValueError(
            f"scanpath over {scanpath.width} x {scanpath.height} px, expected {size[0]} x {size[1]} for this letterbox"
        )
