"""Check orientation.py: all eight orientations of pictures and videos are undone, in files, folders and streams."""

import functools
import struct
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_faults import FOLDER

from sa2va.media import orientation
from sa2va.media.pictures import save_image
from sa2va.media.source import open_media

# Orientation -> the operation that undoes it, and (a, b, c, d) of the display matrix.
UNDO = {
    1: (lambda a: a, (1, 0, 0, 1)),
    2: (lambda a: a[:, ::-1], (-1, 0, 0, 1)),
    3: (lambda a: np.rot90(a, 2), (-1, 0, 0, -1)),
    4: (lambda a: a[::-1], (1, 0, 0, -1)),
    5: (lambda a: a.swapaxes(0, 1), (0, 1, 1, 0)),
    6: (lambda a: np.rot90(a, -1), (0, 1, -1, 0)),
    7: (lambda a: np.rot90(a, 2).swapaxes(0, 1), (0, -1, -1, 0)),
    8: (lambda a: np.rot90(a, 1), (0, -1, 1, 0)),
}
PICTURE = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def with_matrix(path: Path, matrix: tuple[int, ...]) -> Path:
    """Write base.mp4 with another display matrix."""
    content = (FOLDER / "base.mp4").read_bytes()
    a, b, c, d = (value << 16 for value in matrix)
    x, y = -min(a + c, 0), -min(b + d, 0)  # players want the picture moved back into view
    place = content.index(b"tkhd") + 44
    assert content[place : place + 4] == struct.pack(">i", 1 << 16)
    new = struct.pack(">9i", a, b, 0, c, d, 0, 160 * x, 120 * y, 1 << 30)
    path.write_bytes(content[:place] + new + content[place + 36 :])
    return path


@pytest.mark.parametrize("number", UNDO)
def test_a_picture(tmp_path: Path, number: int) -> None:
    undo, _ = UNDO[number]
    assert np.array_equal(orientation.upright(PICTURE, number), undo(PICTURE))
    exif = Image.Exif()
    exif[orientation.EXIF_ORIENTATION] = number
    for name in ("a.png", "a.tif", "b/a.webp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(PICTURE).save(path, exif=exif, lossless=True)
        assert np.array_equal(open_media(path).frame(0), undo(PICTURE)), name


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("number", UNDO)
def test_a_folder_knows_the_upright_size(tmp_path: Path, number: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[orientation.EXIF_ORIENTATION] = number
    for index in range(2):
        Image.fromarray(PICTURE).save(tmp_path / f"{index}.{suffix}", exif=exif, lossless=True)
    media, expected = open_media(tmp_path), UNDO[number][0](PICTURE)
    assert (media.height, media.width) == expected.shape[:2]
    assert np.array_equal(media.frames([0, 1])[1], expected)


@pytest.mark.parametrize("number", UNDO)
def test_a_video(tmp_path: Path, number: int) -> None:
    undo, matrix = UNDO[number]
    expected = undo(open_media(FOLDER / "base.mp4").frame(7))
    path = with_matrix(tmp_path / "clip.mp4", matrix)
    media = open_media(path)
    assert (media.height, media.width) == expected.shape[:2]
    frame = media.frame(7)
    assert frame.flags.c_contiguous and np.array_equal(frame, expected)
    save_image(tmp_path / "frame.png", frame)
    assert np.array_equal(open_media(tmp_path / "frame.png").frame(0), expected)


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def test_streams(tmp_path: Path) -> None:
    for number, (_, matrix) in UNDO.items():
        with_matrix(tmp_path / f"{number}.mp4", matrix)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        first = open_media(FOLDER / "base.mp4").frame(0)
        for number, (undo, _) in UNDO.items():
            address = f"http://127.0.0.1:{server.server_port}/{number}.mp4"
            media = open_media(address, allow_stream=True)
            assert np.array_equal(next(iter(media)), undo(first)), number
            media.close()
    finally:
        server.shutdown()
        server.server_close()


def test_odd_matrices_are_rounded() -> None:
    def packed(*values: float) -> bytes:
        return struct.pack("=9i", *(round(65536 * value) for value in values))

    assert orientation.from_matrix(packed(0.98, 0.17, 0, -0.17, 0.98, 0, 0, 0, 1)) == 1
    assert orientation.from_matrix(packed(-0.2, 0.9, 0, 0.9, 0.2, 0, 0, 0, 1)) == 5
    assert orientation.from_matrix(packed(0, 0, 0, 0, 0, 0, 0, 0, 1)) == 1
    assert orientation.from_matrix(b"") == 1
    assert orientation.upright(PICTURE, 0) is PICTURE and orientation.upright(PICTURE, None) is PICTURE
