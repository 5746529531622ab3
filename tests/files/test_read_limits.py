"""Check read_limits.py: only regular files are read, within limits, and slow opening reports progress and ends."""

import os
import socket
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa2va.files import read_limits
from sa2va.media.pictures import save_image
from sa2va.media.source import open_media

SECONDS = 3.0  # of a processor; about one, on a machine that does other things


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def listening(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def linked(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


SPECIAL: dict[str, Callable[[Path], Path]] = {
    "pipe": fifo,
    "socket": listening,
    "device": lambda path: Path("/dev/zero"),
    "link to a device": linked,
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    path = SPECIAL[kind](Path("a.mp4"))
    for read in (open_media, lambda path: read_limits.read_bounded(path, 100), read_limits.require_regular_file):
        with pytest.raises(ValueError, match="not a regular file") as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_folder_passes_over_what_is_no_regular_file(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.full((4, 5, 3), 7, np.uint8))
    fifo(tmp_path / "b.png")
    linked(tmp_path / "c.png")
    (tmp_path / "d.png").mkdir()
    assert open_media(tmp_path).num_frames == 1


def test_content_within_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(path)
    assert read_limits.read_bounded(path, 10) == read_limits.read_bounded(tmp_path / "link", 10) == b"0123456789"
    assert read_limits.require_regular_file(path) == 10
    with pytest.raises(ValueError, match=r"a\.json: 10 bytes are more than the 9 allowed"):
        read_limits.read_bounded(path, 9)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "there is no such file or folder"),
        ("a\0b", "it cannot be read"),
        ("n" * 300, "it cannot be read"),
        ("", "it is a folder; expected a file"),
        ("empty", "the file is empty"),
        ("empty/below", "there is no such file or folder"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match=message) as caught:
        read_limits.read_bounded(tmp_path / name, 10)
    assert "\n" not in str(caught.value)


def test_a_folder_of_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(5):
        (tmp_path / f"{index}.txt").touch()
    monkeypatch.setattr(read_limits, "MAX_ENTRIES", 4)
    with pytest.raises(ValueError, match="more than the 4 entries allowed in a folder"):
        open_media(tmp_path)


def test_a_long_folder_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(6):
        save_image(tmp_path / f"{index}.png", np.full((4, 5, 3), index, np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_media(tmp_path)
    monkeypatch.setattr(read_limits, "REMARK_SECONDS", 0.0)
    with pytest.warns(UserWarning, match="1 of 6 pictures checked after 0 s"):
        open_media(tmp_path)
    monkeypatch.setattr(read_limits, "MAX_OPEN_SECONDS", -1.0)
    with pytest.raises(ValueError, match="opening it takes more than"):
        open_media(tmp_path)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(side: int, *before: bytes, num_frames: int = 1) -> bytes:
    """Write a black picture, or an animation whose later frames are one pixel large."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) + b"".join(before)
    later, number = [], 1
    if num_frames > 1:
        head += chunk(b"acTL", struct.pack(">II", num_frames, 0))
        head += chunk(b"fcTL", struct.pack(">5IHHBB", 0, side, side, 0, 0, 1, 10, 0, 0))
    for number in range(1, 2 * num_frames - 1, 2):
        later.append(chunk(b"fcTL", struct.pack(">5IHHBB", number, 1, 1, 0, 0, 1, 10, 0, 0)))
        later.append(chunk(b"fdAT", struct.pack(">I", number + 1) + zlib.compress(b"\0\0")))
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixels) + b"".join(later) + chunk(b"IEND", b"")


def gif(side: int, num_frames: int, before: bytes = b"", between: bytes = b"") -> bytes:
    """Write frames of one pixel on a canvas of any size."""
    frame = b",\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    canvas = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    return canvas + before + (frame + between) * num_frames + b";"


def webp(side: int, num_frames: int, folder: Path) -> bytes:
    images = [Image.new("RGB", (side, side), (shade, 0, 0)) for shade in (0, 9)]
    images[0].save(folder / "two.webp", save_all=True, append_images=images[1:], lossless=True, duration=10, method=0)
    content = (folder / "two.webp").read_bytes()
    place = content.index(b"ANMF")
    frame = content[place : place + 8 + int.from_bytes(content[place + 4 : place + 8], "little")]
    body = content[8:place] + frame * num_frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg(side: int, progressive: bool, folder: Path, segment: bytes = b"", num_scans: int = 0) -> bytes:
    """Write a gray picture with more segments in front, and its last scan repeated without data."""
    Image.new("L", (side, side), 99).save(folder / "one.jpg", progressive=progressive)
    content = (folder / "one.jpg").read_bytes()
    place = content.rindex(b"\xff\xda")
    scan = content[place : place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")] + bytes(8)
    return content[:2] + segment + content[2:-2] + scan * num_scans + content[-2:]


TEXT = b"c" * 65_000
COMMENT = b"!\xfe" + (b"\xff" + b"c" * 255) * 30_000 + b"\0"  # 8 MB
FINE_FRAME = b",\0\0\0\0\1\0\1\0\0\2" + b"\1x" * 600_000 + b"\0"  # a sub-block for each byte
METADATA = "allowed for a header; save it again without its metadata"
HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "frames.gif": (lambda folder: gif(9000, 200), "200 frames of 9000x9000 are more than a file of"),
    "frames.png": (lambda folder: png(9000, num_frames=200), "200 frames of 9000x9000 are more than a file of"),
    "frames.webp": (lambda folder: webp(3000, 200, folder), "200 frames of 3000x3000 are more than a file of"),
    "scans.jpg": (lambda folder: jpeg(64, True, folder, num_scans=20_000), "more than the 500 scans allowed"),
    "large_scans.jpg": (lambda folder: jpeg(8000, True, folder, num_scans=400), "scans of 8000x8000 are more than"),
    "comment.gif": (lambda folder: gif(64, 1, before=COMMENT), "bytes of comments and padding allowed"),
    "comments.gif": (lambda folder: gif(64, 3, between=COMMENT), "bytes of comments and padding allowed"),
    "blocks.gif": (lambda folder: gif(64, 1, between=FINE_FRAME), "bytes of comments and padding allowed"),
    "padding.gif": (lambda folder: gif(64, 3, between=bytes(5_000_000)), "bytes of comments and padding allowed"),
    "text.png": (lambda folder: png(64, chunk(b"tEXt", b"k\0" + bytes(30_000_000))), METADATA),
    "texts.png": (lambda folder: png(64, chunk(b"tEXt", b"k\0c") * 500_000), METADATA),
    "zipped.png": (lambda folder: png(64, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(3 * 10**7)))), "too large"),
    "comment.jpg": (lambda folder: jpeg(64, False, folder, (b"\xff\xfe\xfd\xea" + TEXT) * 400), METADATA),
    "exif.jpg": (lambda folder: jpeg(64, False, folder, (b"\xff\xe1\xfd\xf0Exif\0\0" + TEXT) * 400), METADATA),
    "empty.jpg": (lambda folder: jpeg(64, False, folder, b"\xff\xfe\0\2" * 1_000_000), METADATA),
    "filled.jpg": (lambda folder: jpeg(64, False, folder, b"\xff" * 30_000_000), METADATA),
    "comment.ppm": (lambda folder: b"P6\n#" + bytes(30_000_000) + b"\n4 4 255\n" + bytes(48), METADATA),
    "late.ppm": (lambda folder: b"P6\n4 4\n#" + bytes(30_000_000) + b"\n255\n" + bytes(48), METADATA),
    "digits.pbm": (lambda folder: b"P1\n9000 9000\n" + b"0" * 100, "9000x9000 is more than 16777216 pixels"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_cannot_hold_us_up(tmp_path: Path, name: str) -> None:
    write, message = HOSTILE[name]
    path = tmp_path / name
    path.write_bytes(write(tmp_path))
    start = time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        open_media(path).frame(0)
    assert time.process_time() - start < SECONDS
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_what_is_usual_is_far_from_the_bounds(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010E] = "d" * 60_000
    Image.fromarray(picture).save(tmp_path / "a.jpg", progressive=True, exif=exif, comment=b"c" * 60_000)
    assert open_media(tmp_path / "a.jpg").frame(0).shape == picture.shape
    frames = [Image.new("RGB", (640, 360), (0, 8 * index, 0)) for index in range(30)]
    frames[0].save(tmp_path / "slides.webp", save_all=True, append_images=frames[1:], method=0)
    assert open_media(tmp_path / "slides.webp").num_frames == 30
    (tmp_path / "a.gif").write_bytes(gif(320, 500, before=b"!\xfe\x05hello\0"))
    assert open_media(tmp_path / "a.gif").num_frames == 500


def test_a_video_that_has_to_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "still.avi"  # an AVI stores no times
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for _ in range(60):
            frame = av.VideoFrame.from_ndarray(np.zeros((720, 1280, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert open_media(path).num_frames == 60
    monkeypatch.setattr(read_limits, "FREE_WORK", 1 << 20)
    with pytest.raises(ValueError, match=r"still\.avi: \d+ frames of 1280x720 are more than a file of \d+"):
        open_media(path)


def film(path: Path, width: int, height: int, num_frames: int) -> Path:
    """Write black frames of any size. One thread, since buffers of more would count as memory."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "x264-params": "threads=1:lookahead-threads=1"}
        for _ in range(num_frames):
            container.mux(stream.encode(av.VideoFrame(width, height, "yuv420p")))
        container.mux(stream.encode(None))
    return path


def test_frames_of_a_video_have_a_bound_of_their_own(tmp_path: Path) -> None:
    path = film(tmp_path / "large.mp4", 9000, 4000, 1)
    with pytest.raises(ValueError, match=r"large\.mp4: 9000x4000 is more than 35651584 pixels"):
        open_media(path)


@pytest.mark.slow
def test_a_large_video_is_held_in_bounded_memory(tmp_path: Path) -> None:
    """Two frames of the largest size need far less than the 3.5 GB of frame threading."""
    path = film(tmp_path / "large.mp4", 8192, 4352, 2)
    code = (
        "import resource, sys; from sa2va.media.source import open_media; peak = lambda: "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10; before = peak(); "
        "print(sum(1 for _ in open_media(sys.argv[1])), peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    num_frames, num_mebibytes = map(int, done.stdout.split())
    assert num_frames == 2 and num_mebibytes < 1200
