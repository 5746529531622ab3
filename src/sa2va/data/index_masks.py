"""Read masks from index pictures: the value of a pixel is the number of its object, 0 the background.

Flow: Annotations/<clip>/<frame>.png -> IndexTracks -> Sample.tracks. A picture is decoded once for all objects.
Source: DAVIS, arXiv:1704.00675, and YouTube-VOS, arXiv:1809.03327: PNG with a palette.
Shapes: M objects, T frames, H W picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.data.media_files import SizedByHeader
from sa2va.files.read_limits import MAX_PIXELS
from sa2va.media.pictures import open_picture
from sa2va.types import Masks

INDEX_MODES = ("P", "L", "1", "I;16")  # of Pillow: palette, gray, two values, 16 bits
COLOR_MODES = ("RGB", "RGBA")
COLORED = 1 << 24  # tells colors from values


class IndexTracks(SizedByHeader):
    """Masks of M objects on T frames."""

    def __init__(self, folder: Path, names: Sequence[str], values: Sequence[int]) -> None:
        """Keep the places of pictures.

        Args:
            folder: their folder.
            names: T file names.
            values: M pixel values, one per object.
        """
        super().__init__(folder / names[0])
        self._folder, self._names, self._values = folder, tuple(names), tuple(values)

    def __len__(self) -> int:
        return len(self._values)

    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks:
        """Decode masks of n objects on K frames, bool (n, K, H, W).

        Raises:
            ValueError: a picture is damaged, holds colors, or differs in size from the first.
        """
        out = np.zeros((len(objects), len(frames), *self.size), bool)
        values = np.array([self._values[index] for index in objects])
        for column, frame in enumerate(frames if len(objects) else ()):
            path = self._folder / self._names[frame]
            indices = read_indices(path)
            if indices.shape != self.size:
                raise ValueError(f"{path}: it is {indices.shape[1]}x{indices.shape[0]}, not {self.width}x{self.height}")
            out[:, column] = indices == values[:, None, None]
        return out


def read_indices(path: Path, *, colors: bool = False) -> NDArray[Any]:
    """Read an index picture, integers (H, W).

    Args:
        path: the file.
        colors: whether it may hold colors, which become COLORED | red << 16 | green << 8 | blue, and black 0. A gray
            picture that is saved in colors keeps its values.

    Raises:
        ValueError: the file is damaged, or it holds colors instead of object numbers.
    """
    with open_picture(path, MAX_PIXELS) as image:
        if image.mode not in INDEX_MODES and not (colors and image.mode in COLOR_MODES):
            raise ValueError(f"{path}: its pixels are colors ({image.mode}); expected the number of an object each")
        try:
            values = np.asarray(image).astype(np.int32)
            return values if image.mode in INDEX_MODES else _number_colors(values)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path}: the picture cannot be decoded ({error}); fetch the original file") from error


def _number_colors(values: NDArray[Any]) -> NDArray[Any]:
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    if (red == green).all() and (green == blue).all():
        return red
    numbers = red << 16 | green << 8 | blue
    return np.where(numbers > 0, numbers | COLORED, 0)
