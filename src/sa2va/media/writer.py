"""Write frames as H.264 video.

Flow: draw.py (overlays) -> VideoWriter -> an MP4 file. PyAV encodes.
Source: x264 as FFmpeg has it; BT.709 colours, yuv420p and an index at the front are what browsers expect.
Shapes: H, W picture; a frame is uint8 (H, W, 3) in RGB order.
"""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from sa2va.files.atomic import whole_file
from sa2va.media.video import MAX_FPS, Frame, pyav

SUFFIXES = (".mp4", ".mov", ".mkv")
CLOCK = 90_000  # ticks a second, the customary clock of video
BT709, LIMITED_RANGE = 1, 1  # FFmpeg's numbers for the colours of high definition video


class VideoWriter:
    """Write frames as H.264 that every browser plays; the file appears complete or not at all.

    Use as a context manager. An odd height or width is made even by repeating the last row or column, since
    H.264 stores colour at half the size.
    """

    def __init__(self, path: str | Path, fps: float, size: tuple[int, int] | None = None, *, crf: int = 18) -> None:
        """Check the arguments; nothing is written before the first frame.

        Args:
            path: .mp4, .mov or .mkv; missing folders are made.
            fps: frames a second.
            size: (H, W) px that every frame must have; that of the first frame when None.
            crf: quality of x264, 0 (lossless) to 51; 18 looks like the original.

        Raises:
            ValueError: another suffix, an impossible rate, or no PyAV on this machine.
        """
        self._path, self._size, self._crf = Path(path), size, crf
        if self._path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path}: videos are written as {', '.join(SUFFIXES)}")
        if not 0 < fps <= MAX_FPS:
            raise ValueError(f"fps {fps}: expected a number of frames a second in 0..{MAX_FPS:g}")
        if pyav() is None:
            raise ValueError(f"{path}: writing a video needs PyAV; install it with: pip install av")
        self._rate = Fraction(fps).limit_denominator(1001)
        self.num_frames = 0
        self._last_tick = -1
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> Self:
        return self

    def write(self, frame: Frame, time: float | None = None) -> None:
        """Append a frame, uint8 (H, W, 3).

        Args:
            frame: the picture.
            time: when it is shown, in seconds from the start; by default one interval after the last one.

        Raises:
            ValueError: the frame is of another size or type, or its time does not come after the last one.
        """
        if self._size is None and frame.ndim == 3:
            self._size = frame.shape[0], frame.shape[1]
        height, width = self._size or (0, 0)
        if frame.dtype != np.uint8 or frame.shape != (height, width, 3) or not frame.size:
            expected = f"({height}, {width}, 3)" if height and width else "(H, W, 3)"
            raise ValueError(
                f"{self._path}: frame {self.num_frames}: expected uint8 {expected}, got {frame.dtype} {frame.shape}"
            )
        tick = round(time * CLOCK) if time is not None else self._next_tick()
        if tick <= self._last_tick:
            raise ValueError(f"{self._path}: frame {self.num_frames}: its time {time} s is not after the last one")
        if self._container is None:
            self._start(height, width)
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = pyav().VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = tick, Fraction(1, CLOCK)
        self._container.mux(self._stream.encode(picture))
        self.num_frames, self._last_tick = self.num_frames + 1, tick

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._container is None:
            raise ValueError(f"{self._path}: a video needs at least one frame, none was written")
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._stack.__exit__(kind, error, trace)

    def _next_tick(self) -> int:
        return self._last_tick + round(CLOCK / self._rate) if self.num_frames else 0

    def _start(self, height: int, width: int) -> None:
        part = self._stack.enter_context(whole_file(self._path))
        self._container = self._stack.enter_context(
            pyav().open(f"file:{part}", "w", options={"movflags": "+faststart"})
        )
        self._stream = stream = self._container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        stream.options = {"crf": str(self._crf), "preset": "veryfast"}
        context = stream.codec_context
        context.time_base = Fraction(1, CLOCK)
        # Say that the colours are BT.709, which players would otherwise guess from the height.
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
