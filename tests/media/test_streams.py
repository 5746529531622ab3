"""Check cameras and network streams: opened on request only, read on demand, released."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from support.small_model import build_model

from sa2va.inference.predictor import Predictor
from sa2va.media import streams
from sa2va.media.source import open_media
from sa2va.media.writer import VideoWriter

pytest.importorskip("av")

NUM_FRAMES = 12


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve one clip over HTTP on this machine."""
    folder = tmp_path_factory.mktemp("served")
    with VideoWriter(folder / "clip.mp4", 10) as video:
        for index in range(NUM_FRAMES):
            video.write(np.full((32, 48, 3), 20 * index, np.uint8))
    (folder / "text.mp4").write_text("no video at all")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{folder}/clip.mp4\n#EXT-X-ENDLIST\n"
    (folder / "list.m3u8").write_text(playlist)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class FakeCamera:
    """Stands in for cv2.VideoCapture: blue frames without end, or as many as `lasts`."""

    opened: list["FakeCamera"] = []
    lasts = 10**9

    def __init__(self, number: int) -> None:
        self.number, self.released, self.num_read = number, False, 0
        self.opened.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return self.number == 0

    def get(self, what: int) -> float:
        return 15.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.num_read += 1
        if self.num_read > self.lasts:
            return False, None
        frame = np.zeros((24, 32, 3), np.uint8)
        frame[..., 0] = 255  # BGR
        return True, frame

    def release(self) -> None:
        self.released = True


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> list[FakeCamera]:
    monkeypatch.setattr(streams.cv2, "VideoCapture", FakeCamera)
    FakeCamera.opened.clear()
    return FakeCamera.opened


def test_a_network_stream_gives_its_frames(address: str) -> None:
    media = open_media(f"{address}/clip.mp4", allow_stream=True)
    assert (media.height, media.width, media.num_frames, media.seekable) == (32, 48, None, False)
    assert media.fps == pytest.approx(10)
    assert len(media.peek(3)) == 3
    levels = [int(frame.mean()) for frame in media]
    assert levels == pytest.approx([20 * index for index in range(NUM_FRAMES)], abs=4)
    with pytest.raises(ValueError, match="read once only"):
        list(media)


def test_a_camera_is_read_as_far_as_asked(cameras: list[FakeCamera]) -> None:
    media = open_media(0, allow_stream=True)
    assert (media.name, media.height, media.width, media.fps) == ("camera 0", 24, 32, 15)
    frames = iter(media)
    for _ in range(5):
        assert next(frames)[0, 0].tolist() == [0, 0, 255]  # RGB
    (camera,) = cameras
    assert camera.num_read == 5 and not camera.released
    media.close()
    assert camera.released and next(frames, None) is None


@pytest.mark.parametrize("lasts", [1, 3])
def test_a_camera_that_stops_ends_the_track(
    cameras: list[FakeCamera], monkeypatch: pytest.MonkeyPatch, lasts: int
) -> None:
    monkeypatch.setattr(FakeCamera, "lasts", lasts)
    session = Predictor(*build_model()).track(open_media(0, allow_stream=True))
    key = session.add(box=(4, 4, 20, 20))
    assert [[found.id for found in result.objects] for result in session] == [[key]] * lasts
    assert cameras[0].released and next(session, None) is None


@pytest.mark.parametrize(
    ("prompt", "how", "message"),
    [
        (" ", {}, "the prompt is empty"),
        ("the red square", {"keyframes": "last"}, "keyframes 'last' is unknown"),
        (None, {"chunk": 0}, "chunk is 0"),
        (None, {"max_conditioning": 0}, "max_conditioning is 0"),
    ],
)
def test_a_camera_is_handed_back_where_no_track_comes_of_it(
    cameras: list[FakeCamera], prompt: str | None, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(*build_model()).track(0, prompt, allow_stream=True, **how)
    assert all(camera.released for camera in cameras)  # wrong options are told before one is opened


def test_a_camera_without_a_picture_says_so(cameras: list[FakeCamera], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCamera, "lasts", 0)
    with pytest.raises(ValueError, match="camera 0: it ended before the first frame"):
        open_media(0, allow_stream=True)
    assert cameras[0].released


def test_a_camera_left_unread_is_handed_back(cameras: list[FakeCamera]) -> None:
    media = open_media(0, allow_stream=True)
    media.close()
    assert cameras[0].released


@pytest.mark.parametrize("source", [0, "rtsp://camera.example/1", "http://127.0.0.1/clip.mp4", "HTTPS://x.example/a"])
def test_nothing_is_opened_unasked(source: Any, cameras: list[FakeCamera]) -> None:
    with pytest.raises(ValueError, match="allow_stream=True"):
        open_media(source)
    assert not cameras


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4", "list.m3u8"])
def test_what_is_no_video_is_refused(address: str, name: str) -> None:
    """One of them is a playlist that points to a local file."""
    with pytest.raises(ValueError, match=name):
        open_media(f"{address}/{name}", allow_stream=True)


@pytest.mark.parametrize("source", ["file:///etc/hostname", "ftp://x.example/clip.mp4", "concat:a|b", True])
def test_other_schemes_are_no_streams(source: Any) -> None:
    with pytest.raises(ValueError, match="no such file|expected a path"):
        open_media(source, allow_stream=True)


def test_bounds_hold(address: str, cameras: list[FakeCamera]) -> None:
    with pytest.raises(ValueError, match="more than the 5 frames allowed"):
        list(open_media(f"{address}/clip.mp4", allow_stream=True, max_frames=5))
    for source in (f"{address}/clip.mp4", 0):
        with pytest.raises(ValueError, match="100"):
            open_media(source, allow_stream=True, max_pixels=100)
    with pytest.raises(ValueError, match="camera 7: it cannot be opened"):
        open_media(7, allow_stream=True)
    assert all(camera.released for camera in cameras)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(ValueError) as error:
        open_media("rtsp://user:secret@127.0.0.1:9/stream", allow_stream=True)
    assert "secret" not in str(error.value) and "127.0.0.1:9" in str(error.value)
