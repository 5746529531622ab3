"""Turn and mirror decoded frames upright, by the EXIF orientation of a picture or the display matrix of a video.

Flow: EXIF orientation, display matrix -> orientation 1..8 -> upright -> frames.
Source: EXIF 2.32, tag 274; ISO/IEC 14496-12, matrix of the track header; FFmpeg, libavutil/display.h.
Shapes: H, W stored picture; orientations 5..8 swap them.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXIF_ORIENTATION = 0x0112
SWAPPED = (5, 6, 7, 8)  # orientations that swap height and width

# Orientation -> signs (a, b, c, d) of the matrix that shows a stored pixel (x, y) at (a x + c y, b x + d y).
SIGNS = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
ORIENTATIONS = {signs: orientation for orientation, signs in SIGNS.items()}


def upright(picture: NDArray[np.uint8], orientation: Any) -> NDArray[np.uint8]:
    """Turn a stored picture (H, W, C) upright; an unknown orientation changes nothing."""
    a, b, c, d = SIGNS.get(orientation, SIGNS[1])
    if (a, d) == (1, 1):
        return picture
    turned = picture if a else picture.swapaxes(0, 1)
    return np.ascontiguousarray(turned[:: b + d, :: a + c])


def from_matrix(matrix: bytes) -> int:
    """Return the orientation nearest to a display matrix; 1 if there is no matrix.

    Args:
        matrix: nine 32-bit integers a, b, u, c, d, v, x, y, w in native byte order, as FFmpeg gives them.
    """
    if len(matrix) < 36:
        return 1
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    # Round other angles to a multiple of 90 degrees: keep the diagonal of the matrix with the larger entries.
    straight = abs(a) + abs(d) >= abs(b) + abs(c)
    signs = (np.sign(a), 0, 0, np.sign(d)) if straight else (0, np.sign(b), np.sign(c), 0)
    return ORIENTATIONS.get(tuple(int(sign) for sign in signs), 1)
