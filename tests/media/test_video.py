"""Check video.py on videos whose frames encode their own number, so that no reference decoder is needed."""

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sa2va.media import video
from sa2va.media.source import Media, open_media

HEIGHT, WIDTH, NUM_FRAMES = 48, 128, 50
BIT_WIDTH = WIDTH // 8
TICK = Fraction(1, 1000)
UNEVEN = np.cumsum(np.random.default_rng(1).integers(5, 200, NUM_FRAMES)).tolist()  # ms
NO_B_FRAMES = {"x264-params": "threads=1:bframes=0:keyint=10:scenecut=0"}
X264 = "threads=1:bframes=3:b-adapt=0:keyint=10:scenecut=0"


def picture_of(number: int, scale: int = 1) -> np.ndarray:
    """Write a number as eight columns, light for 1 and dark for 0."""
    bits = [220 if number >> bit & 1 else 30 for bit in range(8)]
    return np.tile(np.repeat(bits, BIT_WIDTH * scale)[None, :, None], (HEIGHT * scale, 1, 3)).astype(np.uint8)


def number_in(frame: np.ndarray) -> int:
    middle = frame[HEIGHT // 2, BIT_WIDTH // 2 :: BIT_WIDTH, 1]
    return sum(int(value > 125) << bit for bit, value in enumerate(middle))


def numbers_in(frames: Iterable[np.ndarray]) -> list[int]:
    return [number_in(frame) for frame in frames]


def encode(
    path: Path,
    ticks: Sequence[int] | None = None,
    *,
    codec: str = "libx264",
    num_frames: int = NUM_FRAMES,
    rotation: int = 0,
    scale: int = 1,
    **options: str,
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = scale * WIDTH, scale * HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "x264-params": X264, **options} if codec == "libx264" else options
        stream.codec_context.time_base = TICK if ticks else Fraction(1, 25)
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture_of(index, scale), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = (ticks[index], TICK) if ticks else (index, Fraction(1, 25))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def assert_exact(media: Media, expected: list[int]) -> None:
    """Compare iteration and random access with the numbers in the frames."""
    assert media.num_frames == len(expected)
    assert numbers_in(media) == expected
    rng = np.random.default_rng(0)
    for index in rng.permutation(len(expected))[:5].tolist():
        assert number_in(media.frame(index)) == expected[index]
    for chosen in ([0, len(expected) - 1], [9, 10, 11, len(expected) - 3], rng.integers(0, len(expected), 9).tolist()):
        assert numbers_in(media.frames(chosen)) == [expected[index] for index in chosen]


CASES: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {},
    "open_gop.mp4": {"x264-params": X264 + ":open-gop=1:b-pyramid=2"},
    "tiny_gop.mp4": {"x264-params": "threads=1:keyint=2:bframes=1:b-adapt=0:scenecut=0"},
    "uneven.mp4": {"ticks": UNEVEN},
    "late_start.mp4": {"ticks": [tick + 100_000 for tick in UNEVEN]},
    "uneven.mkv": {"ticks": UNEVEN},
    "b_frames.mov": {},
    "open_gop.ts": {"x264-params": X264 + ":open-gop=1"},
    "b_frames.avi": {"codec": "mpeg4", "bf": "2", "g": "12"},
    "with:colon.mp4": {},
    "vp8.webm": {"codec": "libvpx", "g": "12", "auto-alt-ref": "1", "lag-in-frames": "8", "deadline": "realtime"},
}


@pytest.mark.parametrize("name", CASES)
def test_frames_are_exact(tmp_path: Path, name: str) -> None:
    media = open_media(encode(tmp_path / name, **CASES[name]))
    assert (media.height, media.width, media.is_image) == (HEIGHT, WIDTH, False)
    assert_exact(media, list(range(NUM_FRAMES)))
    ticks = np.array(CASES[name].get("ticks") or range(0, 40 * NUM_FRAMES, 40))
    assert media.times == pytest.approx((ticks - ticks[0]) / 1000, abs=1e-3)
    assert media.fps == pytest.approx(1000 * (NUM_FRAMES - 1) / (ticks[-1] - ticks[0]), rel=1e-3)


def test_a_seek_decodes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media = open_media(encode(tmp_path / "a.mp4"))
    decoded = 0
    original = video.decode_frames

    def counting(*args: Any) -> Any:
        nonlocal decoded
        for picture in original(*args):
            decoded += 1
            yield picture

    monkeypatch.setattr(video, "decode_frames", counting)
    media.frame(45)
    assert decoded <= 12
    decoded = 0
    media.frames(range(50))
    assert decoded == 50


def test_two_passes_at_once(tmp_path: Path) -> None:
    media = open_media(encode(tmp_path / "a.mp4"))
    first, second = iter(media), iter(media)
    assert [number_in(next(first)) for _ in range(5)] == list(range(5))
    assert number_in(next(second)) == 0
    assert number_in(media.frame(40)) == 40
    assert number_in(next(first)) == 5


def test_one_frame(tmp_path: Path) -> None:
    media = open_media(encode(tmp_path / "a.mp4", num_frames=1))
    assert media.is_image and media.fps == 25 and media.times is not None and media.times.tolist() == [0]


def test_rotation_is_undone(tmp_path: Path) -> None:
    upright = open_media(encode(tmp_path / "0.mp4", num_frames=4)).frame(3).astype(int)
    for degrees in (90, 180, 270):
        path = encode(tmp_path / f"{degrees}.mp4", num_frames=4, rotation=degrees)
        media = open_media(path)
        turned = media.frame(3).astype(int)
        assert np.array_equal(turned, np.rot90(upright, degrees // 90))
        assert (media.height, media.width) == turned.shape[:2]


@pytest.mark.parametrize("claimed", [10, 10_000_000])
def test_a_wrong_length_in_the_header_is_ignored(tmp_path: Path, claimed: int) -> None:
    path = encode(tmp_path / "a.mp4")
    content = bytearray(path.read_bytes())
    for box, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 24)):
        place = content.index(box) + 4 + offset
        content[place : place + 4] = struct.pack(">I", claimed)
    path.write_bytes(content)
    assert_exact(open_media(path), list(range(NUM_FRAMES)))


def test_a_cut_file_gives_what_is_left(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", **NO_B_FRAMES)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.7)])
    media = open_media(path)
    assert media.num_frames is not None and 20 < media.num_frames < 50
    assert_exact(media, list(range(media.num_frames)))


def test_a_hole_repeats_the_frame_before(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", **NO_B_FRAMES)
    with av.open(str(path)) as container:
        packets = sorted((packet.pos, packet.size) for packet in container.demux(video=0) if packet.size)
    content = bytearray(path.read_bytes())
    for position, size in packets[20:24]:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="frame 20 is damaged"):
        shown = numbers_in(open_media(path))
    assert shown[:20] == list(range(20)) and shown[30:] == list(range(30, 50))
    assert shown[20] == 19
    with pytest.warns(UserWarning, match="damaged"):
        assert_exact(open_media(path), shown)


def test_a_change_of_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = encode(tmp_path / "small.ts", num_frames=10)
    large = encode(tmp_path / "large.ts", [40 * (index + 12) for index in range(10)], num_frames=10, scale=2)
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    assert numbers_in(open_media(both)) == [*range(10), *range(10)]


@pytest.fixture(scope="module")
def damaged_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    whole = encode(folder / "whole.mp4", num_frames=12).read_bytes()
    (folder / "no_index.mp4").write_bytes(whole[: len(whole) // 2])
    start = whole.index(b"mdat") + 4
    (folder / "zeros.mp4").write_bytes(whole[:start] + bytes(len(whole) - start))
    (folder / "noise.mp4").write_bytes(b"\0\0\0\x20ftypisom" + np.random.default_rng(0).bytes(3000))
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_index.mp4", "not a readable video"),
        ("zeros.mp4", "not a readable video"),
        ("noise.mp4", "not a readable video"),
        ("sound.mp4", "no video that can be decoded"),
        ("whole.mp4", "more than the 10 frames"),
    ],
)
def test_bad_videos_are_one_line(damaged_files: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_media(damaged_files / name, max_frames=10)
    assert str(caught.value).startswith(str(damaged_files / name)) and "\n" not in str(caught.value)


def test_too_many_pixels(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", num_frames=2)
    with pytest.raises(ValueError, match="128x48 is more than 6000 pixels"):
        open_media(path, max_pixels=6000)


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize("seed", range(12))
def test_damage_is_a_video_or_one_line(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = encode(tmp_path / ("a.mkv" if seed % 2 else "a.mp4"), num_frames=12)
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content) if seed % 3 else 500, rng.integers(1, 20)).tolist():
        content[place] = int(rng.integers(256))
    path.write_bytes(content)
    try:
        media = open_media(path, max_pixels=100_000)
        shown = sum(1 for _ in media)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert shown == media.num_frames
