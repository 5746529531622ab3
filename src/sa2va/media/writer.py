"""Write frames as H.264 video.

Flow: overlays of draw/ -> VideoWriter -> an MP4 file.
Source: x264 in FFmpeg, through PyAV. BT.709 colors, yuv420p and the index at the front are what browsers expect.
Shapes: H, W picture; a frame is uint8 (H, W, 3) in RGB order.
"""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import OutputContainer

from sa2va.files.atomic import whole_file
from sa2va.media.video import MAX_FPS
from sa2va.types import Frame

SUFFIXES = (".mp4", ".mov", ".mkv")
CLOCK = 90_000  # ticks per second, the usual clock of video
BT709, LIMITED_RANGE = 1, 1  # FFmpeg's enum values


class VideoWriter:
    """Context manager that writes H.264 for every browser; the file appears complete or not at all.

    An odd height or width is made even by repeating the last row or column, since H.264 stores color at half size.
    """

    def __init__(self, path: str | Path, fps: float, size: tuple[int, int] | None = None, *, crf: int = 18) -> None:
        """Check the arguments; nothing is written before the first frame.

        Args:
            path: .mp4, .mov or .mkv; missing folders are made.
            fps: frames per second.
            size: (H, W) px of every frame; None = the size of the first one.
            crf: constant rate factor of x264, 0 (lossless) to 51; 18 looks like the original.

        Raises:
            ValueError: another suffix or an impossible rate.
        """
        self._path, self._size, self._crf = Path(path), size, crf
        if self._path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path}: videos are written as {', '.join(SUFFIXES)}")
        if not 0 < fps <= MAX_FPS:
            raise ValueError(f"fps {fps}: expected a number of frames a second in 0..{MAX_FPS:g}")
        self._rate = Fraction(fps).limit_denominator(1001)
        self.num_frames = 0
        self._last_tick = -1
        self._stack = ExitStack()
        self._output: tuple[OutputContainer, av.VideoStream] | None = None  # opened by the first frame

    def __enter__(self) -> Self:
        return self

    def write(self, frame: Frame, time: float | None = None) -> None:
        """Append a frame.

        Args:
            frame: uint8 (H, W, 3).
            time: when it is shown, seconds from the start; None = one interval after the last frame.

        Raises:
            ValueError: the frame has another size or type, or its time is not after the last one.
        """
        if self._size is None and frame.ndim == 3:
            self._size = frame.shape[0], frame.shape[1]
        height, width = self._size or (0, 0)
        if frame.dtype != np.uint8 or frame.shape != (height, width, 3) or not frame.size:
            expected = f"({height}, {width}, 3)" if height and width else "(H, W, 3)"
            raise ValueError(
                f"{self._path}: frame {self.num_frames}: expected uint8 {expected}, got {frame.dtype} {frame.shape}"
            )
        next_tick = self._last_tick + round(CLOCK / self._rate) if self.num_frames else 0
        tick = next_tick if time is None else round(time * CLOCK)
        if tick <= self._last_tick:
            raise ValueError(f"{self._path}: frame {self.num_frames}: its time {time} s is not after the last one")
        container, stream = self._output = self._output or self._open(height, width)
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = tick, Fraction(1, CLOCK)
        container.mux(stream.encode(picture))
        self.num_frames, self._last_tick = self.num_frames + 1, tick

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            if self._output is None:
                raise ValueError(f"{self._path}: a video needs at least one frame, none was written")
            container, stream = self._output
            container.mux(stream.encode(None))
        self._stack.__exit__(kind, error, trace)

    def _open(self, height: int, width: int) -> tuple[OutputContainer, av.VideoStream]:
        part = self._stack.enter_context(whole_file(self._path))
        container = self._stack.enter_context(av.open(f"file:{part}", "w", options={"movflags": "+faststart"}))
        stream = container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        stream.options = {"crf": str(self._crf), "preset": "veryfast"}
        context = stream.codec_context
        context.time_base = Fraction(1, CLOCK)
        # Without these tags players guess the color space from the height.
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        return container, stream
