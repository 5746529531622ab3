"""Read cameras and network streams frame by frame, only as far as someone asks.

Flow: camera number or address -> LiveReader -> frames, uint8 (H, W, 3), one at a time -> media.py.
Source: FFmpeg (https://ffmpeg.org) through PyAV for addresses; it may open network protocols only, so that no
    playlist can reach a local file. OpenCV for cameras.
Shapes: H W picture.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va.files.read_limits import MAX_VIDEO_PIXELS, check_size
from sa2va.media.video import DEMUXERS, MAX_FPS, decode_pictures, find_video, pyav, to_rgb

Frame = NDArray[np.uint8]  # (H, W, 3)

SCHEMES = ("rtsp", "rtsps", "http", "https")
PROTOCOLS = "rtsp,rtp,udp,tcp,tls,http,https,crypto"
STREAM_DEMUXERS = f"{DEMUXERS},rtsp,rtp,sdp,hls,mpjpeg,mjpeg,h264,hevc"
TIMEOUT = 10.0  # s, to connect and between two packets


def is_address(source: Any) -> bool:
    """Tell a camera number or a network address from everything else."""
    if isinstance(source, str):
        return "://" in source and urlsplit(source).scheme.lower() in SCHEMES
    return isinstance(source, int) and not isinstance(source, bool)


class LiveReader:
    """Frames that arrive: one pass, no length. The first one is taken at once; close() hands the source back."""

    num_frames = None
    times = None

    def __init__(self, source: int | str, *, fps: float, max_frames: int | None, max_pixels: int) -> None:
        """Open the source.

        Args:
            source: number of a camera, or an address of one of SCHEMES.
            fps: frames a second where the source names no rate.
            max_frames: the first frame beyond it is an error; None = endless.
            max_pixels: a frame with more than this H * W is an error.

        Raises:
            ValueError: the source cannot be opened or gives no frame.
        """
        self.name = f"camera {source}" if isinstance(source, int) else _without_password(source)
        self.fps, self.height, self.width = fps, 0, 0
        self._max_frames, self._max_pixels = max_frames, min(max_pixels, MAX_VIDEO_PIXELS)
        self._frames = self._read_camera(source) if isinstance(source, int) else self._read_address(source)
        self._first: Frame | None = next(self._frames, None)
        if self._first is None:
            raise ValueError(f"{self.name}: no frame arrives; check the source")
        self.height, self.width = self._first.shape[:2]

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        """Yield all frames from the first one on; `indices` is not used, a stream cannot be rewound."""
        if self._first is None:
            raise ValueError(f"{self.name}: a live source can be read once only; open it again")
        first, self._first = self._first, None
        return self._checked(first)

    def close(self) -> None:
        """Hand the camera or the connection back."""
        self._frames.close()

    def _checked(self, first: Frame) -> Iterator[Frame]:
        try:
            for index in count():
                frame = first if index == 0 else next(self._frames, None)
                if frame is None:
                    return
                if self._max_frames is not None and index >= self._max_frames:
                    raise ValueError(f"{self.name}: more than the {self._max_frames} frames allowed")
                yield frame
        finally:
            self.close()

    def _read_camera(self, number: int) -> Generator[Frame]:
        capture = cv2.VideoCapture(number)
        try:
            if not capture.isOpened():
                raise ValueError(f"{self.name}: it cannot be opened; is it connected and free?")
            rate = capture.get(cv2.CAP_PROP_FPS)
            self.fps = rate if 0 < rate <= MAX_FPS else self.fps
            while True:
                good, frame = capture.read()
                if not good:
                    return
                check_size(self.name, *frame.shape[:2], self._max_pixels)
                yield np.asarray(frame[..., ::-1], np.uint8, order="C")  # BGR -> RGB
        finally:
            capture.release()

    def _read_address(self, address: str) -> Generator[Frame]:
        av = pyav()
        if av is None:
            raise ValueError(f"{self.name}: network streams need PyAV: pip install av")
        options = {
            "format_whitelist": STREAM_DEMUXERS,
            "protocol_whitelist": PROTOCOLS,
            "rtsp_transport": "tcp",  # over udp a busy network drops parts of pictures
            "max_pixels": str(self._max_pixels),
        }
        try:
            container = av.open(address, metadata_errors="replace", options=options, timeout=TIMEOUT)
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ValueError(f"{self.name}: the stream cannot be opened ({reason})") from None
        with container:
            stream = find_video(container, self.name, self._max_pixels)
            rate = float(stream.average_rate or 0)
            self.fps = rate if 0 < rate <= MAX_FPS else self.fps
            for picture in decode_pictures(container, stream):
                check_size(self.name, picture.height, picture.width, self._max_pixels)
                yield to_rgb(picture, self.height, self.width)


def _without_password(address: str) -> str:
    """Leave the user's name and password out of what is shown in messages."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
