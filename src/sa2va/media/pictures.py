"""Read and write still pictures, folders of pictures and animations of any color mode.

Flow: a file or PIL image -> to_rgb -> uint8 (H, W, 3) -> source.py; overlays and masks -> save_image -> a file.
    orientation.py turns pictures upright, depth.py scales them to eight bits per color.
Source: Pillow decodes, and pillow-heif decodes HEIF. Our own rule: transparent parts become white, as in videos.
Shapes: T frames, H W picture, 3 colors in RGB order.
"""

import re
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile

from sa2va.files import read_limits
from sa2va.files.atomic import whole_file
from sa2va.files.manifest import Manifest
from sa2va.files.read_limits import check_size
from sa2va.media import depth, orientation, picture_cost
from sa2va.media.containers import kind_of
from sa2va.types import Frame

# Only decoders inside Pillow: EPS, for example, would start another program.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # the pictures of MPO and TIFF files are not frames of a video
SUFFIXES = frozenset(".jpg .jpeg .png .webp .avif .heic .heif .hif .gif .bmp .tif .tiff .ppm .pgm".split())
READABLE = "give JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF, MP4, MOV, MKV, WebM, AVI or a folder of pictures"
SAVED_AS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF"}
_WARNINGS = threading.RLock()  # held while warning filters change, since they are global to the process
STILL_SECONDS = 0.1  # s, duration of a frame that states none, as in browsers


def read_picture(path: Path, max_pixels: int, name: str = "") -> Frame:
    """Read the first picture of a file.

    Args:
        path: a file of one of FORMATS.
        max_pixels: largest H * W.
        name: the source, for warnings; the path if empty.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: the file cannot be read, is damaged or has too many pixels.
    """
    with open_picture(path, max_pixels) as image:
        return decode_picture(image, path, name)


@contextmanager
def open_picture(path: Path, max_pixels: int) -> Generator[Image.Image]:
    """Open a picture and check its header against the limits, before any pixel is decoded."""
    num_bytes = read_limits.require_regular_file(path, read_limits.MAX_PICTURE_BYTES)
    picture_cost.check_comments(path)
    with picture_cost.HeaderLimitedFile(path) as file:
        image = _open_image(file, path, max_pixels)
        check_size(str(path), image.height, image.width, max_pixels)
        picture_cost.check_cost(image, path, num_bytes)
        file.opened = True
        with image:
            yield image


def _open_image(file: picture_cost.HeaderLimitedFile, path: Path, max_pixels: int) -> Image.Image:
    kind = kind_of(path)
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the errors below say what matters
            if kind == "heif":
                return _open_heif(file)
            # Pillow looks at the main brand only and would miss some AVIF files.
            return AvifImageFile(file) if kind == "avif" else Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"{path}: the picture has more than {max_pixels} pixels; make it smaller") from None
    except ModuleNotFoundError:
        raise ValueError(
            f"{path}: HEIC pictures need pillow-heif: pip install 'sa2va[heic]', or save it as JPEG or PNG"
        ) from None
    except Exception as error:  # a broken file can make a decoder raise anything
        if file.refused:
            raise ValueError(
                f"{path}: more than the {read_limits.MAX_HEADER_BYTES} bytes or {read_limits.MAX_HEADER_READS} reads "
                "allowed for a header; save it again without its metadata"
            ) from None
        raise ValueError(f"{path}: {_complaint(path, error)}") from None


def _open_heif(file: BinaryIO) -> Image.Image:
    """Open a HEIF file without registering HEIF in Pillow for the whole program."""
    from pillow_heif import HeifImageFile

    return HeifImageFile(file)


def is_animation(path: Path, max_pixels: int) -> bool:
    """Return whether a picture file is an animation of several frames."""
    with open_picture(path, max_pixels) as image:
        return image.format in ANIMATED and _seek(image, 1)


def to_rgb(image: Image.Image, name: str = "image") -> Frame:
    """Convert any PIL image to uint8 (H, W, 3): upright, eight bits per color, transparent parts white."""
    image.load()  # loading turns a TIFF file upright and drops its orientation
    turn = image.getexif().get(orientation.EXIF_ORIENTATION, 1)
    if depth.is_deep(image):
        image = depth.to_gray(image, name)
    return orientation.upright(on_white(image), turn)


def on_white(image: Image.Image) -> Frame:
    """Composite an image with eight bits per color on white; return uint8 (H, W, 3)."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def decode_image(image: Image.Image, name: str) -> Frame:
    """Decode a caller's PIL image to uint8 (H, W, 3); errors start with `name`."""
    with _naming(Path(name)):
        return to_rgb(image, name)


def decode_picture(image: Image.Image, path: Path, name: str = "") -> Frame:
    """Decode an open picture file to uint8 (H, W, 3); errors start with `path`, warnings with `name`."""
    with _naming(path):
        name = name or str(path)
        return to_rgb(depth.restore_low_bytes(image, path, name), name)


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Convert any exception of a decoder to a ValueError that names the file and the fix."""
    try:
        yield
    except Exception as error:  # a broken file can make a decoder raise anything
        raise ValueError(f"{path}: {_complaint(path, error)}") from None


def _complaint(path: Path, error: BaseException) -> str:
    """Describe in one line why a decoder refused a file, and the fix."""
    unknown = isinstance(error, Image.UnidentifiedImageError)
    if unknown and path.suffix.lower() not in SUFFIXES:
        return f"its content is of no supported type; {READABLE}"
    reason = "no decoder knows it" if unknown else (str(error) or type(error).__name__).splitlines()[0][:100]
    return f"the picture cannot be decoded ({reason}); save it again as PNG or JPEG"


class PicturesReader:
    """Picture files of one size, in the order given, as a video."""

    def __init__(self, files: Sequence[Path], name: str, *, fps: float, max_pixels: int, max_frames: int) -> None:
        self.files, self.name, self.fps, self._max_pixels = list(files), name, fps, max_pixels
        self._said: set[str] = set()
        self.num_frames = len(self.files)
        if self.num_frames > max_frames:
            raise ValueError(f"{name}: {self.num_frames} pictures are more than the {max_frames} frames allowed")
        self.height, self.width = read_size(self.files[0], max_pixels)
        for file in read_limits.watched(self.files[1:], self.name, "pictures checked", self.num_frames):
            height, width = read_size(file, max_pixels)
            if (height, width) != (self.height, self.width):
                raise ValueError(
                    f"{file}: {width}x{height}, but {self.files[0].name} is {self.width}x{self.height}; "
                    "all pictures of a folder have to be of one size"
                )
        self.times = np.arange(self.num_frames) / fps  # (T,) seconds

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        for index in indices:
            with _said_once(self._said):
                picture = read_picture(self.files[index], self._max_pixels, self.name)
            yield picture


class FolderReader(PicturesReader):
    """A folder of pictures, in natural order of their names, as a video."""

    def __init__(self, path: Path, *, fps: float, max_pixels: int, max_frames: int) -> None:
        entries = read_limits.list_folder(path)
        names = (entry for entry in entries if entry.suffix.lower() in SUFFIXES and entry.is_file())
        ours = Manifest.read(path)  # overlays that we wrote beside the frames are no frames
        files = sorted(
            (entry for entry in names if not entry.name.startswith(".") and not ours.owns(entry.name)), key=_natural
        )
        if not files:
            raise ValueError(f"{path}: the folder holds no pictures ({', '.join(sorted(SUFFIXES))})")
        super().__init__(files, str(path), fps=fps, max_pixels=max_pixels, max_frames=max_frames)


@contextmanager
def _said_once(said: set[str]) -> Generator[None]:
    """Show each warning once per folder instead of once per picture."""
    with _WARNINGS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if str(warning.message) not in said:
            said.add(str(warning.message))
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class AnimationReader:
    """An animated GIF, WebP, PNG or AVIF file. Frames build on each other, so every pass starts at the first."""

    def __init__(self, path: Path, *, max_pixels: int, max_frames: int) -> None:
        self.name, self._path, self._max_pixels = str(path), path, max_pixels
        seconds = []
        with open_picture(path, max_pixels) as image:
            self.height, self.width = decode_picture(image, path).shape[:2]
            # The header's count may be wrong and the end may be missing, so count what decodes.
            for index in read_limits.watched(count(), self.name, "frames counted"):
                if not _seek(image, index):
                    break
                check_size(self.name, image.height, image.width, max_pixels)  # a GIF may grow
                seconds.append(float(image.info.get("duration") or 0) / 1000 or STILL_SECONDS)
                read_limits.check_frames(self.name, len(seconds), max_frames)
        self.num_frames = len(seconds)
        self.times = np.cumsum([0.0, *seconds[:-1]])  # (T,) seconds
        self.fps = self.num_frames / sum(seconds)

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        with open_picture(self._path, self._max_pixels) as image:
            for index in indices:
                if not _seek(image, index):
                    raise ValueError(f"{self.name}: frame {index} can no longer be read; the file has changed")
                yield decode_picture(image, self._path)


def _seek(image: Image.Image, index: int) -> bool:
    """Decode frame `index` of an animation; return False at its end or at damage."""
    try:
        image.seek(index)
        image.load()
    except Exception:  # a broken file can make a decoder raise anything
        return False
    return True


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that puts frame2 before frame10."""
    pieces = re.findall(r"\d+|\D+", path.name)
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def read_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Read the upright (H, W) px, from the header alone if the format allows it."""
    # EXIF data may follow the pixels of a PNG, so Pillow decodes them to look for it.
    with open_picture(path, max_pixels) as image, _naming(path):
        turn = image.getexif().get(orientation.EXIF_ORIENTATION)
        if turn in orientation.SWAPPED and image.format != "TIFF":  # Pillow gives the upright size of a TIFF
            return image.width, image.height
        return image.height, image.width


def save_image(path: str | Path, picture: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
    """Write a picture or a mask; the file appears complete or not at all.

    Args:
        path: .png, .jpg, .webp or .avif; missing folders are made.
        picture: uint8 (H, W, 3) or (H, W), or a bool mask (H, W), written as 0 and 255.

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
    with whole_file(path) as part:
        quality = {} if kind == "PNG" else {"quality": 95}
        Image.fromarray(np.ascontiguousarray(picture)).save(part, format=kind, **quality)
