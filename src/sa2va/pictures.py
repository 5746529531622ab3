"""Read and write still pictures, folders of pictures and animations, whatever their mode.

Flow: a file or PIL image -> to_rgb -> uint8 (H, W, 3) -> media.py; overlays and masks -> save_image -> a file.
Source: Pillow decodes; the rules for alpha (white), EXIF (transposed) and 16 bits (the high byte) are ours.
Shapes: T frames, H W picture, 3 colours in RGB order.
"""

import os
import re
import uuid
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Picture = NDArray[np.uint8]  # (H, W, 3)

# Only decoders that stay inside Pillow: EPS, for one, would start another program.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # MPO and TIFF hold several pictures too, but not a film
SUFFIXES = frozenset(".jpg .jpeg .png .webp .avif .gif .bmp .tif .tiff .ppm .pgm".split())
READABLE = "give JPEG, PNG, WebP, AVIF, GIF, TIFF, MP4, MOV, MKV, WebM, AVI or a folder of pictures"
SAVED_AS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF"}
EXIF_ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # orientations that swap width and height
STILL_SECONDS = 0.1  # how long a frame that names no duration is shown, as browsers do


def read_picture(path: Path, max_pixels: int) -> Picture:
    """Read the first picture of a file.

    Args:
        path: a file of one of FORMATS.
        max_pixels: the largest H * W that is decoded.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: the file cannot be read, is damaged or has too many pixels.
    """
    with open_picture(path, max_pixels) as image:
        return decode_picture(image, path)


def open_picture(path: Path, max_pixels: int) -> Image.Image:
    """Read the header of a picture and hold it against the cap, before a pixel is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is said below, in one line
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"{path}: the picture has more than {max_pixels} pixels; make it smaller") from None
    except Exception as error:  # a broken file can make a decoder raise anything
        raise ValueError(f"{path}: {_complaint(path, error)}") from None
    check_size(str(path), image.height, image.width, max_pixels)
    return image


def is_animation(path: Path, max_pixels: int) -> bool:
    """Tell whether a picture file is a film of several frames."""
    with open_picture(path, max_pixels) as image:
        return image.format in ANIMATED and _seek(image, 1)


def check_size(name: str, height: int, width: int, max_pixels: int) -> None:
    """Refuse a picture with no pixels or with too many of them."""
    if height < 1 or width < 1:
        raise ValueError(f"{name}: the picture is {width}x{height}, it needs at least one pixel")
    if height * width > max_pixels:
        raise ValueError(f"{name}: {width}x{height} is more than {max_pixels} pixels; make the picture smaller")


def to_rgb(image: Image.Image) -> Picture:
    """Turn any PIL image into uint8 (H, W, 3): upright, eight bits a colour, transparent parts white."""
    if image.mode == "F":
        raise ValueError("a picture of floating point numbers has no agreed range; save it with 8 bits a colour")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip and not scale
        image = Image.fromarray((np.asarray(image, np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def decode_picture(image: Image.Image, path: Path) -> Picture:
    """Decode an open picture to uint8 (H, W, 3); raise a ValueError that names `path` where that fails."""
    with _naming(path):
        return to_rgb(image)


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Turn whatever a decoder raises into a ValueError that names the file and what to do."""
    try:
        yield
    except Exception as error:  # a broken file can make a decoder raise anything
        raise ValueError(f"{path}: {_complaint(path, error)}") from None


def _complaint(path: Path, error: BaseException) -> str:
    """Say in one line what is wrong with a file that a decoder refused, and what to do."""
    unknown = isinstance(error, Image.UnidentifiedImageError)
    if unknown and path.suffix.lower() not in SUFFIXES:
        return f"its content is of no supported type; {READABLE}"
    reason = "no decoder knows it" if unknown else (str(error) or type(error).__name__).splitlines()[0][:100]
    return f"the picture cannot be decoded ({reason}); save it again as PNG or JPEG"


class FolderReader:
    """A folder whose pictures, in natural order of their names, are the frames of a video."""

    def __init__(self, path: Path, *, fps: float, max_pixels: int, max_frames: int) -> None:
        self.name, self.fps, self._max_pixels = str(path), fps, max_pixels
        names = (entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file())
        self._files = sorted((entry for entry in names if not entry.name.startswith(".")), key=_natural)
        if not self._files:
            raise ValueError(f"{path}: the folder holds no pictures ({', '.join(sorted(SUFFIXES))})")
        self.num_frames = len(self._files)
        if self.num_frames > max_frames:
            raise ValueError(f"{path}: {self.num_frames} pictures are more than the {max_frames} frames allowed")
        self.height, self.width = _upright_size(self._files[0], max_pixels)
        for file in self._files[1:]:
            height, width = _upright_size(file, max_pixels)
            if (height, width) != (self.height, self.width):
                raise ValueError(
                    f"{file}: {width}x{height}, but {self._files[0].name} is {self.width}x{self.height}; "
                    "all pictures of a folder have to be of one size"
                )
        self.times = np.arange(self.num_frames) / fps  # (T,) seconds

    def read(self, indices: Iterable[int]) -> Iterator[Picture]:
        for index in indices:
            yield read_picture(self._files[index], self._max_pixels)


class AnimationReader:
    """An animated GIF, WebP, PNG or AVIF file. Its frames build on each other, so a pass starts at the first one."""

    def __init__(self, path: Path, *, max_pixels: int, max_frames: int) -> None:
        self.name, self._path, self._max_pixels = str(path), path, max_pixels
        seconds = []
        with open_picture(path, max_pixels) as image:
            self.height, self.width = decode_picture(image, path).shape[:2]
            # The header's count may be wrong and the end may be missing: only what decodes is counted.
            while _seek(image, len(seconds)):
                seconds.append(float(image.info.get("duration") or 0) / 1000 or STILL_SECONDS)
                if len(seconds) > max_frames:
                    raise ValueError(f"{path}: more than the {max_frames} frames allowed; cut it into pieces")
        self.num_frames = len(seconds)
        self.times = np.cumsum([0.0, *seconds[:-1]])  # (T,) seconds
        self.fps = self.num_frames / sum(seconds)

    def read(self, indices: Iterable[int]) -> Iterator[Picture]:
        with open_picture(self._path, self._max_pixels) as image:
            for index in indices:
                if not _seek(image, index):
                    raise ValueError(f"{self.name}: frame {index} can no longer be read; the file has changed")
                yield decode_picture(image, self._path)


def _seek(image: Image.Image, index: int) -> bool:
    """Decode frame `index` of an animation; False at its end or where it is damaged."""
    try:
        image.seek(index)
        image.load()
    except Exception:  # a broken file can make a decoder raise anything
        return False
    return True


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort frame2 before frame10."""
    pieces = re.findall(r"\d+|\D+", path.name)
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def _upright_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Read (H, W) px as they are after EXIF transposition, where the format allows it from the header alone."""
    # A PNG may have its EXIF data behind the pixels, so Pillow decodes them all to look for it.
    with open_picture(path, max_pixels) as image, _naming(path):
        if image.getexif().get(EXIF_ORIENTATION) in TURNED:
            return image.width, image.height
        return image.height, image.width


def save_image(path: str | Path, picture: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
    """Write a picture or a mask; the file appears complete or not at all.

    Args:
        path: .png, .jpg, .webp or .avif; missing folders are made.
        picture: uint8 (H, W, 3) or (H, W), or a bool mask (H, W), which is written as 0 and 255.

    Raises:
        ValueError: another suffix or another kind of array.
    """
    path = Path(path)
    kind = SAVED_AS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: pictures are saved as {', '.join(SAVED_AS)}")
    if picture.dtype == bool:
        picture = picture.astype(np.uint8) * 255
    if picture.dtype != np.uint8 or (picture.ndim != 2 and picture.shape[2:] != (3,)) or not picture.size:
        raise ValueError(f"{path}: expected uint8 (H, W, 3) or bool (H, W), got {picture.dtype} {picture.shape}")
    with atomic_path(path) as part:
        quality = {} if kind == "PNG" else {"quality": 95}
        Image.fromarray(np.ascontiguousarray(picture)).save(part, format=kind, **quality)


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Lend a temporary name beside `path`; rename it to `path` after success, remove it after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
