"""Read sources without a length frame by frame: iterators, cameras and network addresses.

Flow: iterator -> IteratorReader; camera number or address -> LiveReader. Both -> frames, uint8 (H, W, 3) -> source.py.
Source: FFmpeg (https://ffmpeg.org) through PyAV for addresses, OpenCV for cameras. FFmpeg may use network protocols
    only, so that no playlist can reach a local file.
Shapes: H W picture.
"""

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from PIL import Image

from sa2va.files.read_limits import MAX_VIDEO_PIXELS, check_size
from sa2va.media.arrays import EXPECTED, as_frames, to_rgb
from sa2va.media.pictures import decode_image
from sa2va.media.video import DEMUXERS, MAX_FPS, decode_frames, find_video
from sa2va.media.video import to_rgb as decoded_to_rgb
from sa2va.types import Frame

SCHEMES = ("rtsp", "rtsps", "http", "https")
PROTOCOLS = "rtsp,rtp,udp,tcp,tls,http,https,crypto"
STREAM_DEMUXERS = f"{DEMUXERS},rtsp,rtp,sdp,hls,mpjpeg,mjpeg,h264,hevc"
TIMEOUT = 10.0  # s, to connect and between two packets


def is_address(source: Any) -> bool:
    """Return whether a source is a camera number or a network address."""
    if isinstance(source, str):
        return "://" in source and urlsplit(source).scheme.lower() in SCHEMES
    return isinstance(source, int) and not isinstance(source, bool)


class StreamReader:
    """A source without a length that can be read once. The first frame is read at once, for its size."""

    num_frames = None
    times = None

    def __init__(self, name: str, frames: Generator[Frame], *, fps: float, max_frames: int | None) -> None:
        """Read the first frame.

        Args:
            name: the source, for messages.
            frames: generator of frames, closed at the end.
            fps: frames per second; a rate stated by the source replaces it.
            max_frames: maximum number of frames; None = no limit.

        Raises:
            ValueError: there is no frame.
        """
        self.name, self.fps, self._frames, self._max_frames = name, fps, frames, max_frames
        self.height = self.width = 0  # set by the first frame
        self._first: Frame | None = next(frames, None)
        if self._first is None:
            raise ValueError(f"{name}: it ended before the first frame")
        self.height, self.width = self._first.shape[:2]

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        """Yield all frames. `indices` is ignored: a stream cannot be rewound."""
        if self._first is None:
            raise ValueError(f"{self.name}: it can be read once only; open it again, or pass a file or an array")
        first, self._first = self._first, None
        return self._read_from(first)

    def close(self) -> None:
        """Release the source."""
        self._frames.close()

    def _read_from(self, first: Frame) -> Iterator[Frame]:
        try:
            yield first
            for index, frame in enumerate(self._frames, 1):
                if self._max_frames is not None and index >= self._max_frames:
                    raise ValueError(f"{self.name}: more than the {self._max_frames} frames allowed")
                yield frame
        finally:
            self.close()


class IteratorReader(StreamReader):
    """Frames that the caller makes: PIL images, arrays or tensors."""

    def __init__(self, source: Iterator[Any], *, fps: float, max_frames: int | None, max_pixels: int) -> None:
        self.files: list[Path] = []  # of the frames so far
        super().__init__("iterator of frames", self._convert(source, max_pixels), fps=fps, max_frames=max_frames)

    def _convert(self, source: Iterator[Any], max_pixels: int) -> Generator[Frame]:
        for index, item in enumerate(source):
            name = f"{self.name}: frame {index}"
            if isinstance(item, Image.Image):
                check_size(name, item.height, item.width, max_pixels)
                if file := getattr(item, "filename", ""):
                    self.files.append(Path(file))
                frame = decode_image(item, name)
            else:
                frames = as_frames(item, name, max_pixels)
                if frames is None:
                    raise ValueError(f"{name}: {EXPECTED}, got {type(item).__name__}")
                if item.ndim > 3:
                    raise ValueError(f"{name}: expected one frame, got {frames.dtype} {frames.shape}")
                frame = to_rgb(frames[0])
            if index and frame.shape[:2] != (self.height, self.width):
                raise ValueError(
                    f"{name} is {frame.shape[1]}x{frame.shape[0]}, the first one was {self.width}x{self.height}"
                )
            yield frame.copy()  # the caller may draw the next frame into the same memory


class LiveReader(StreamReader):
    """Frames of a camera or a network address, as they arrive."""

    def __init__(self, source: int | str, *, fps: float, max_frames: int | None, max_pixels: int) -> None:
        """Open the source.

        Args:
            source: number of a camera, or an address of one of SCHEMES.
            fps: frames per second if the source states no rate.
            max_frames: maximum number of frames; None = no limit.
            max_pixels: maximum H * W of a frame.

        Raises:
            ValueError: the source cannot be opened or gives no frame.
        """
        self._max_pixels = min(max_pixels, MAX_VIDEO_PIXELS)
        if isinstance(source, int):
            name, frames = f"camera {source}", self._read_camera(source)
        else:
            name, frames = _without_password(source), self._read_address(source)
        super().__init__(name, frames, fps=fps, max_frames=max_frames)

    def _read_camera(self, number: int) -> Generator[Frame]:
        capture = cv2.VideoCapture(number)
        try:
            if not capture.isOpened():
                raise ValueError(f"{self.name}: it cannot be opened; is it connected and free?")
            self._take_rate(capture.get(cv2.CAP_PROP_FPS))
            while True:
                good, frame = capture.read()
                if not good:
                    return
                check_size(self.name, *frame.shape[:2], self._max_pixels)
                yield np.asarray(frame[..., ::-1], np.uint8, order="C")  # BGR -> RGB
        finally:
            capture.release()

    def _read_address(self, address: str) -> Generator[Frame]:
        options = {
            "format_whitelist": STREAM_DEMUXERS,
            "protocol_whitelist": PROTOCOLS,
            "rtsp_transport": "tcp",  # over UDP a busy network drops parts of frames
            "max_pixels": str(self._max_pixels),
        }
        try:
            container = av.open(address, metadata_errors="replace", options=options, timeout=TIMEOUT)
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ValueError(f"{self.name}: the stream cannot be opened ({reason})") from None
        with container:
            stream = find_video(container, self.name, self._max_pixels)
            self._take_rate(float(stream.average_rate or 0))
            for picture in decode_frames(container, stream):
                check_size(self.name, picture.height, picture.width, self._max_pixels)
                yield decoded_to_rgb(picture, self.height, self.width)

    def _take_rate(self, stated: float) -> None:
        if 0 < stated <= MAX_FPS:
            self.fps = stated


def _without_password(address: str) -> str:
    """Drop the user's name and password, which no message may show."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
