"""Convert coordinates between an image and a canvas on which it is letterboxed.

Flow: raw gaze data (screen px) <-> scanpath in px of the image <-> the canvas of a metric or a model.
Source: RefCOCO-Gaze shows photos on a screen of 1680 x 1050 px and scores on 512 x 320, the same aspect ratio.
Shapes: K points, x before y.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.gaze.scanpath import Scanpath

SCREEN = (1680, 1050)  # px, width and height of the screen of RefCOCO-Gaze and COCO-Search18
CANVAS = (512, 320)  # px, canvas of published scanpath metrics


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """An image scaled to fit a canvas at its own aspect ratio, centered."""

    image_size: tuple[int, int]  # px, width and height
    canvas_size: tuple[int, int] = CANVAS

    def __post_init__(self) -> None:
        if min(*self.image_size, *self.canvas_size) < 1:
            raise ValueError(f"letterbox: {self.image_size} in {self.canvas_size} px, expected sizes of at least 1 px")

    @property
    def exact_scale(self) -> Fraction:
        """Canvas px per image px as a fraction, so that rounding adds no bar where the image fills the canvas."""
        return min(Fraction(canvas, image) for canvas, image in zip(self.canvas_size, self.image_size, strict=True))

    @property
    def scale(self) -> float:
        """Canvas px per image px, in x and y."""
        return float(self.exact_scale)

    @property
    def offset(self) -> NDArray[np.float64]:
        """(2,) canvas px left of and above the image."""
        pairs = zip(self.canvas_size, self.image_size, strict=True)
        return np.array([float((canvas - image * self.exact_scale) / 2) for canvas, image in pairs])

    def to_canvas(self, points: ArrayLike) -> NDArray[np.float64]:
        """Convert image px to canvas px, (K, 2) -> (K, 2)."""
        return np.asarray(points, float).reshape(-1, 2) * self.scale + self.offset

    def to_image(self, points: ArrayLike) -> NDArray[np.float64]:
        """Convert canvas px to image px, (K, 2) -> (K, 2)."""
        return (np.asarray(points, float).reshape(-1, 2) - self.offset) / self.scale

    def scanpath_to_canvas(self, scanpath: Scanpath) -> Scanpath:
        """Convert a scanpath from the image to the canvas.

        Raises:
            ValueError: the scanpath's image has another size.
        """
        _expect_size(scanpath, self.image_size)
        return scanpath.with_points(self.to_canvas(scanpath.points), *self.canvas_size)

    def scanpath_to_image(self, scanpath: Scanpath) -> Scanpath:
        """Convert a scanpath from the canvas to the image; fixations on a bar get coordinates outside the image.

        Raises:
            ValueError: the scanpath's canvas has another size.
        """
        _expect_size(scanpath, self.canvas_size)
        return scanpath.with_points(self.to_image(scanpath.points), *self.image_size)


def _expect_size(scanpath: Scanpath, size: tuple[int, int]) -> None:
    if (scanpath.width, scanpath.height) != size:
        raise ValueError(
            f"scanpath over {scanpath.width} x {scanpath.height} px, expected {size[0]} x {size[1]} for this letterbox"
        )
