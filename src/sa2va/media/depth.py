"""Scale pictures with more than eight bits per color to eight, by the range that the file states.

Flow: PIL image of mode I or F, 16-bit array -> to_eight_bits -> pictures.py. Without a stated range, bright 16-bit
    integers are scaled from the full 16-bit range. The range of other values is guessed, with a warning.
Source: TIFF 6.0, tags 258 (bits), 281 and 341 (largest value).
"""

import math
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va.media.orientation import EXIF_ORIENTATION

BITS_PER_SAMPLE, MAX_SAMPLE_VALUES = 258, (341, 281)
USUAL_BITS = (8, 10, 12, 16, 32)
OVERSHOOT = 2.0  # floats with a maximum up to this are read as 0..1, since resizing overshoots
BLACK_BELOW = 1 << 12  # 16-bit integers with a maximum below this would look black at full range


def is_deep(image: Image.Image) -> bool:
    """Return whether Pillow holds an image with more than eight bits per color."""
    return image.mode.startswith(("I", "F"))


def restore_low_bytes(image: Image.Image, path: Path, name: str) -> Image.Image:
    """Read 16-bit colors with OpenCV if Pillow, which keeps only their high bytes, would show them as black.

    Args:
        image: opened image, not decoded.
        path: its PNG or TIFF file.
        name: the source, for the warning.

    Returns:
        The image itself, or one with eight bits per color and the same EXIF orientation.
    """
    if is_deep(image) or not any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        return image
    turn = image.getexif().get(EXIF_ORIENTATION, 1) if image.format == "TIFF" else 1  # decoding drops it
    image.load()
    if np.asarray(image)[..., :3].max(initial=0) >= BLACK_BELOW >> 8:  # without alpha, which has a range of its own
        return image
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] not in (3, 4):
        return image
    parts = [to_eight_bits(values[..., 2::-1], name)]  # BGR -> RGB
    if values.shape[2] == 4:
        parts.append(to_eight_bits(values[..., 3:], name))
    found = Image.fromarray(np.concatenate(parts, axis=-1))
    exif = image.getexif()
    exif[EXIF_ORIENTATION] = exif.get(EXIF_ORIENTATION, turn)
    found.info["exif"] = exif.tobytes()
    return found


def to_gray(image: Image.Image, name: str) -> Image.Image:
    """Convert a decoded image of mode I or F to mode L; arguments and errors as for `to_eight_bits`."""
    return Image.fromarray(to_eight_bits(np.asarray(image), name, _stated_maximum(image)))


def to_eight_bits(values: NDArray[Any], name: str, stated: float | None = None) -> NDArray[np.uint8]:
    """Scale 0..largest to 0..255; negative values become 0.

    Args:
        values: integers or floats of any shape.
        name: the source, for the warning.
        stated: largest value according to the source; None = assumed from the values.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: floats beyond 65535, which have no agreed range.
    """
    if values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = stated or _assumed_maximum(values, name)
    clipped = values.clip(0, largest)
    if largest == 65535 and values.dtype.kind != "f":
        return (clipped.astype(np.uint16) >> 8).astype(np.uint8)  # the high byte, as Pillow does for colors
    return np.rint(clipped.astype(np.float64) * (255 / largest)).astype(np.uint8)


def _stated_maximum(image: Image.Image) -> float | None:
    tags = getattr(image, "tag_v2", {})
    for tag in MAX_SAMPLE_VALUES:
        largest = _first_number(tags.get(tag))
        if largest:
            return largest
    bits = _first_number(tags.get(BITS_PER_SAMPLE))
    if bits and bits < 16 and not image.mode.startswith("F"):
        return float((1 << int(bits)) - 1)
    return 65535.0 if image.format == "PPM" and image.mode == "I" else None  # Pillow scales PPM to 16 bits


def _first_number(value: Any) -> float | None:
    value = value[0] if isinstance(value, tuple) and value else value
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _assumed_maximum(values: NDArray[Any], name: str) -> float:
    """Return the upper end of the smallest usual range that holds all values; warn if that is a guess."""
    top = float(values.max(initial=0))
    is_float = values.dtype.kind == "f"
    if top <= 0 or (values.dtype == np.uint16 and top >= BLACK_BELOW):
        return 65535.0
    if is_float and top > 65535:
        raise ValueError(
            f"floating point numbers up to {top:g} have no agreed range; save them as 0..1, or with 8 bits a color"
        )
    if is_float and 1 < top <= OVERSHOOT:
        top = 1.0
    ranges = [1.0] * is_float + [float((1 << bits) - 1) for bits in USUAL_BITS]
    largest = next((limit for limit in ranges if top <= limit), top)
    kind = "floating point numbers" if is_float else f"{8 * values.dtype.itemsize}-bit integers"
    warnings.warn(f"{name}: {kind} without a stated range; 0..{largest:g} is assumed", stacklevel=1)
    return largest
