"""Check writer.py: H.264 that browsers play, complete or not there."""

from pathlib import Path

import av
import numpy as np
import pytest

from sa2va.media.source import open_media
from sa2va.media.writer import VideoWriter

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (250, 220, 30), (40, 90, 200), (255, 255, 255), (0, 0, 0)]


def plain(height: int, width: int) -> list[np.ndarray]:
    return [np.full((height, width, 3), color, np.uint8) for color in COLORS]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (33, 47), (1, 1), (2, 5)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_colors_and_sizes_come_back(tmp_path: Path, height: int, width: int, suffix: str) -> None:
    path = tmp_path / "new" / f"a{suffix}"
    with VideoWriter(path, 12.5) as writer:
        for frame in plain(height, width):
            writer.write(frame)
    assert writer.num_frames == len(COLORS)
    media = open_media(path)
    assert (media.height, media.width) == (height + height % 2, width + width % 2)
    assert media.num_frames == len(COLORS) and media.fps == pytest.approx(12.5, rel=0.01)
    for frame, color in zip(media, COLORS, strict=True):
        assert np.abs(frame.astype(int) - color).max() <= 4
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_browsers_can_play_it(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 30, (33, 47)) as writer:
        for frame in plain(33, 47):
            writer.write(frame)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.colorspace, context.color_range) == ("h264", "yuv420p", 1, 1)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_times_are_kept(tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 1, 1.01]
    with VideoWriter(tmp_path / "a.mp4", 30) as writer:
        for frame, time in zip(plain(16, 16), times, strict=False):
            writer.write(frame, time)
        with pytest.raises(ValueError, match="not after the last"):
            writer.write(plain(16, 16)[0], 1.0)
    assert open_media(tmp_path / "a.mp4").times == pytest.approx(times, abs=1e-4)


def test_an_odd_edge_is_repeated(tmp_path: Path) -> None:
    frame = np.zeros((31, 31, 3), np.uint8)
    frame[:, 16:] = 255
    with VideoWriter(tmp_path / "a.mp4", 25, crf=1) as writer:
        writer.write(frame)
    last_column = open_media(tmp_path / "a.mp4").frame(0)[:, 31]
    assert (last_column > 240).all()


@pytest.mark.parametrize(
    ("frames", "size", "message"),
    [
        ([], None, "at least one frame"),
        (
            [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)],
            None,
            r"frame 1: .*\(8, 8, 3\).*\(8, 10, 3\)",
        ),
        ([plain(8, 8)[0]], (8, 10), r"frame 0: .*\(8, 10, 3\)"),
        ([np.zeros((8, 8, 3))], None, "float64"),
        ([np.zeros((8, 8), np.uint8)], None, r"\(8, 8\)"),
        ([np.zeros((0, 8, 3), np.uint8)], None, r"\(0, 8, 3\)"),
    ],
)
def test_nothing_is_left_after_an_error(
    tmp_path: Path, frames: list[np.ndarray], size: tuple[int, int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message), VideoWriter(tmp_path / "a.mp4", 25, size) as writer:
        for frame in frames:
            writer.write(frame)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [("a.gif", 25, ".mp4"), ("a", 25, ".mp4"), ("a.mp4", 0, "fps 0"), ("a.mp4", float("nan"), "fps nan")],
)
def test_bad_arguments(tmp_path: Path, name: str, fps: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoWriter(tmp_path / name, fps)
