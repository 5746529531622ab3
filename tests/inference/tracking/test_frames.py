"""Check sessions on every kind of source, intact or damaged, and that all resources are released."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.small_session import NUM_FRAMES, assert_same

from sa2va.inference.tracking.session import TrackSession
from sa2va.media.pictures import save_image
from sa2va.media.writer import VideoWriter

# ---- sources


def test_every_kind_of_source_gives_the_same(
    start: Callable[..., TrackSession], clip: np.ndarray, tmp_path: Path
) -> None:
    for index, frame in enumerate(clip):
        save_image(tmp_path / f"{index:03d}.png", frame)
    whole = list(start(clip, prompted=2))
    assert [result.index for result in whole] == list(range(NUM_FRAMES))
    for source in (iter(clip), tmp_path):
        for one, other in zip(start(source, prompted=2), whole, strict=True):
            assert_same(one, other, 0.0)


@pytest.mark.parametrize("how", [{"chunk": 4}, {"prefetch": False}, {"chunk": 3, "prefetch": False}, {"chunk": 99}])
def test_chunks_and_prefetch_change_nothing(
    start: Callable[..., TrackSession], clip: np.ndarray, how: dict[str, Any]
) -> None:
    for one, other in zip(start(clip, prompted=2, **how), start(clip, prompted=2), strict=True):
        assert_same(one, other)


def test_a_broken_source_fails_at_its_frame(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield from clip[:3]
        raise OSError("the cable was pulled")

    session, seen = start(frames(), prompted=1), []
    with pytest.raises(OSError, match="cable"):
        for result in session:
            seen.append(result.index)
    assert seen == [0, 1, 2] and list(session) == []


def test_a_source_without_frames_says_so(start: Callable[..., TrackSession], clip: np.ndarray) -> None:
    session = start(iter(clip[:2]))
    assert len(list(session)) == 2 and next(session, None) is None
    with pytest.raises(ValueError, match="it ended before the first frame"):
        start(iter(()))


def encode_clip(path: Path, *, rotation: int = 0, ticks: list[int] | None = None, num_frames: int = 8) -> Path:
    av = pytest.importorskip("av")
    from fractions import Fraction

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"preset": "ultrafast", "x264-params": "threads=1:keyint=4:bframes=0"}
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            picture = np.full((48, 64, 3), 20 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = (ticks[index] if ticks else 40 * index), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_in_the_middle(path: Path) -> Path:
    """Damage a packet: a frame that cannot be decoded repeats its neighbor."""
    data = bytearray(encode_clip(path).read_bytes())
    start = data.index(b"mdat")
    data[start + 200 : start + 260] = bytes(60)
    path.write_bytes(data)
    return path


def claim_more_frames(path: Path) -> Path:
    """Write a header that announces twice the duration."""
    data = bytearray(encode_clip(path).read_bytes())
    start = data.index(b"mvhd") + 4
    duration = int.from_bytes(data[start + 16 : start + 20], "big")
    data[start + 16 : start + 20] = (2 * duration).to_bytes(4, "big")
    path.write_bytes(data)
    return path


@pytest.mark.filterwarnings("ignore:.*damaged")
@pytest.mark.parametrize(
    ("write", "num_frames", "size", "times"),
    [
        (encode_clip, 8, (48, 64), [0.04 * t for t in range(8)]),
        (lambda path: encode_clip(path, rotation=90), 8, (64, 48), None),
        (lambda path: encode_clip(path, ticks=[0, 10, 300, 310, 500, 900, 910, 2000]), 8, (48, 64), [0, 0.01, 0.3]),
        (lambda path: encode_clip(path, num_frames=1), 1, (48, 64), [0]),
        (cut_in_the_middle, 8, (48, 64), None),
        (claim_more_frames, 8, (48, 64), None),
    ],
    ids=["plain", "rotated", "variable rate", "one frame", "damaged", "wrong length"],
)
def test_odd_videos(
    start: Callable[..., TrackSession],
    tmp_path: Path,
    write: Callable[[Path], Path],
    num_frames: int,
    size: tuple[int, int],
    times: list[float] | None,
) -> None:
    session = start(write(tmp_path / "clip.mp4"))
    session.add(box=(4, 4, 30, 30))
    results = list(session)
    assert [result.index for result in results] == list(range(num_frames))
    assert all(found.mask.shape == size for result in results for found in result.objects)
    if times is not None:
        assert [r.time for r in results][: len(times)] == pytest.approx(times, abs=1e-3)


# ---- nothing left behind


def open_files(path: Path) -> int:
    return sum(link.exists() and link.resolve() == path for link in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("close", ["close", "with", "forget"])
@pytest.mark.parametrize("num_read", [0, 2])
def test_a_stream_left_unread_is_closed(
    start: Callable[..., TrackSession], clip: np.ndarray, tmp_path: Path, close: str, num_read: int
) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 10) as video:
        for frame in clip:
            video.write(frame)
    threads = threading.active_count()
    session = start(tmp_path / "clip.mp4", prompted=1)
    for _ in range(num_read):
        next(session)
    assert (threading.active_count() > threads) == (num_read > 0)
    if close == "with":
        with session:
            pass
    elif close == "close":
        session.close()
    if close != "forget":
        assert next(session, None) is None
    del session
    gc.collect()
    for _ in range(100):  # a forgotten thread ends by itself, soon
        if threading.active_count() == threads:
            break
        time.sleep(0.02)
    assert threading.active_count() == threads
    assert open_files(tmp_path / "clip.mp4") == 0
