"""Check every row of data/faults/README.md: files that were once read wrongly."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa2va.media.source import open_media
from sa2va.media.writer import VideoWriter

pytest.importorskip("av")

FOLDER = Path(__file__).parent / "data" / "faults"
BACKGROUND = (235, 235, 225)
RED, BLUE = (220, 30, 30), (30, 60, 210)


def is_near(pixel: np.ndarray, color: tuple[int, int, int]) -> bool:
    return int(np.abs(pixel.astype(int) - color).max()) <= 12


def check_base(path: Path, scratch: Path) -> None:
    media = open_media(path)
    assert (media.num_frames, media.height, media.width) == (12, 120, 160)
    for index, frame in enumerate(media):
        assert (
            is_near(frame[45, 35 + 6 * index], RED)
            and is_near(frame[92, 112], BLUE)
            and is_near(frame[5, 5], BACKGROUND)
        )


def turned(turn: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Path], None]:
    def check(path: Path, scratch: Path) -> None:
        base, media = open_media(path.with_name("base.mp4")), open_media(path)
        for index in (0, 7, 11):
            frame, expected = media.frame(index), turn(base.frame(index))
            assert frame.shape == expected.shape == (media.height, media.width, 3)
            assert np.array_equal(frame, expected)

    return check


def check_uneven(path: Path, scratch: Path) -> None:
    media = open_media(path)
    assert media.times is not None and media.times[7] == pytest.approx(0.83, abs=0.01)
    with VideoWriter(scratch / "overlay.mp4", media.fps) as writer:
        for frame, time in zip(media, media.times, strict=True):
            writer.write(frame, float(time))
    written = open_media(scratch / "overlay.mp4")
    assert written.times == pytest.approx(media.times, abs=0.01)
    assert np.abs(written.frame(7).astype(int) - media.frame(7)).mean() < 3


def check_integers(path: Path, scratch: Path) -> None:
    with pytest.warns(UserWarning, match=r"i32\.tif: 32-bit integers without .*; 0\.\.255 is assumed"):
        frame = open_media(path).frame(0)
    with Image.open(path) as image:
        assert np.array_equal(frame, np.repeat(np.asarray(image, np.uint8)[..., None], 3, axis=2))
    assert (frame.min(), frame.max()) == (30, 235)


def check_transparent(path: Path, scratch: Path) -> None:
    frame = open_media(path).frame(0)
    assert (frame[:60] == 255).all()  # the hidden pixels there are black
    with Image.open(path.with_name("al.png")) as image:
        assert np.array_equal(frame[60:], np.asarray(image)[60:, :, :3])


def check_cover(path: Path, scratch: Path) -> None:
    with pytest.raises(ValueError, match=r"cover\.m4a: audio with a cover picture and no video; .*") as caught:
        open_media(path)
    assert "\n" not in str(caught.value)


CHECKS: dict[str, Callable[[Path, Path], None]] = {
    "base.mp4": check_base,
    "rot90.mp4": turned(lambda frame: np.rot90(frame, -1)),
    "hflip.mp4": turned(lambda frame: frame[:, ::-1]),
    "transpose.mp4": turned(lambda frame: frame.transpose(1, 0, 2)),
    "vfr.mp4": check_uneven,
    "i32.tif": check_integers,
    "al.png": check_transparent,
    "al.mov": check_transparent,
    "cover.m4a": check_cover,
}


def rows() -> list[str]:
    """Read the names of the table's first column."""
    cells = re.findall(r"^\| ([^|]+) \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    return [name.strip() for cell in cells[1:] for name in cell.split(",")]


@pytest.mark.parametrize("name", rows())
def test_the_row_comes_out_right(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CHECKS[name](FOLDER / name, tmp_path)


def test_every_row_has_a_check_and_a_file() -> None:
    files = sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".md")
    assert sorted(rows()) == sorted(CHECKS) == files
