"""Decode video files frame-exactly at constant memory.

Flow: a video file -> VideoReader -> frames, uint8 (H, W, 3), one at a time -> source.py.
Source: FFmpeg (https://ffmpeg.org) through PyAV. Only the demuxers in DEMUXERS may run: a playlist could open
    other files.
Shapes: T frames, H W picture.
"""

import math
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image

from sa2va.files import read_limits
from sa2va.files.read_limits import check_size
from sa2va.media import orientation
from sa2va.media.pictures import on_white
from sa2va.types import Frame

Indexed = tuple[int, av.VideoFrame]  # index of a frame, and the frame as decoded

DEMUXERS = "mov,matroska,avi,mpegts,ogg,flv,asf"
LARGE_FRAME = 4096 * 2176  # px
FALLBACK_FPS = 25.0  # for a video of one frame that states no rate
MAX_FPS = 1000.0  # a header can claim anything


class VideoReader:
    """A video file, addressed by frame number.

    Frames are numbered by the time stamps of the packets, which are read without decoding: frame i is what a player
    shows at the i-th time stamp. The length in the header is ignored. A packet that does not decode repeats the
    frame before it, with a warning, so that the numbers hold for damaged files too.
    """

    def __init__(self, path: Path, *, max_pixels: int, max_frames: int) -> None:
        """Read the time stamps and decode the first frame.

        Raises:
            ValueError: the file is damaged, holds no frames, or exceeds a limit.
        """
        self.name, self._path = str(path), path
        self._max_pixels = min(max_pixels, read_limits.MAX_VIDEO_PIXELS)
        self._stamps: list[int] = []  # of all frames, increasing; empty if they cannot number the frames
        self._keys: list[int] = []  # indices of the key frames
        self._warned = False
        self.height = self.width = 0  # set by the first frame
        with self._open() as (container, stream):
            rate, tick = float(stream.average_rate or 0), float(stream.time_base or 0)
            stamps = self._scan(container, stream, max_frames)
        if stamps is not None:
            stamps.sort()
            self._stamps = [stamp for stamp, _ in stamps]
            self._keys = [index for index, (_, is_key) in enumerate(stamps) if is_key]
            self.times = (np.array(self._stamps, np.float64) - (self._stamps or [0])[0]) * tick  # (T,) seconds
        else:
            self.times = np.arange(self._count_by_decoding(max_frames)) / (rate or FALLBACK_FPS)  # (T,) seconds
        self.num_frames = len(self.times)
        first = next(self.read([0]), None)
        if first is None:
            raise ValueError(f"{path}: no frame of the video can be decoded; it is empty or damaged")
        self.height, self.width = first.shape[:2]
        self.fps = _mean_rate(self.times, rate)

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        """Yield the frames at increasing indices; seek only where that saves decoding."""
        cursor = _Cursor(iter(()))
        try:
            for target in indices:
                key = self._key_before(target)
                if cursor.index < key or cursor.index < 0:
                    cursor.close()
                    cursor = _Cursor(self._decode_from(key))
                index, picture = cursor.advance(target)
                if key > 0 and (picture is None or index > target):
                    # Nothing decodes from the key frame to the target: show what a full pass would show.
                    cursor.close()
                    cursor = _Cursor(self._decode_from(0))
                    index, picture = cursor.advance(target)
                if picture is None:
                    return
                if index != target and not self._warned:
                    self._warned = True
                    warnings.warn(f"{self.name}: frame {target} is damaged and shows its neighbor", stacklevel=2)
                yield to_rgb(picture, self.height, self.width)
        finally:
            cursor.close()

    @contextmanager
    def _open(self) -> Generator[tuple[InputContainer, av.VideoStream]]:
        """Open the file anew, so that any number of passes can run side by side."""
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file", "max_pixels": str(self._max_pixels)}
        try:
            # "file:" keeps a colon in a name from being read as a protocol.
            container = av.open(f"file:{self._path}", metadata_errors="replace", options=options)
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ValueError(f"{self._path}: not a readable video ({reason}); convert it to MP4 (H.264)") from None
        with container:
            stream = find_video(container, self.name, self._max_pixels)
            # With frame threading each thread holds a frame, so large frames are split among the threads instead.
            area = stream.codec_context.width * stream.codec_context.height
            stream.thread_type = "SLICE" if area > LARGE_FRAME else "AUTO"
            yield container, stream

    def _scan(
        self, container: InputContainer, stream: av.VideoStream, max_frames: int
    ) -> list[tuple[int, bool]] | None:
        """List (time stamp, is a key frame) per packet; None if the time stamps cannot number the frames."""
        stamps: list[tuple[int, bool]] = []
        if container.format.name == "avi":  # it stores no presentation times, FFmpeg makes them up
            return None
        for packet in _packets(container, stream):
            if packet.pts is None:
                return None
            if not packet.is_discard:  # a discarded packet is decoded for its successors only and never shown
                stamps.append((packet.pts, packet.is_keyframe))
            read_limits.check_frames(self.name, len(stamps), max_frames)
        return stamps if len({stamp for stamp, _ in stamps}) == len(stamps) else None

    def _count_by_decoding(self, max_frames: int) -> int:
        """Count the frames of a container whose time stamps cannot number them."""
        count, num_bytes = 0, self._path.stat().st_size
        with closing(self._decode_from(0)) as pictures:
            watched = read_limits.watched(pictures, self.name, "frames counted")
            for count, (_, picture) in enumerate(watched, 1):  # noqa: B007
                read_limits.check_frames(self.name, count, max_frames)
                size, bound = (picture.height, picture.width), read_limits.VIDEO_WORK_PER_BYTE
                read_limits.check_work(self.name, *size, count, num_bytes, per_byte=bound, most=math.inf)
        return count

    def _key_before(self, index: int) -> int:
        place = bisect_right(self._keys, index)
        return self._keys[place - 1] if place else 0

    def _decode_from(self, key: int) -> Generator[Indexed]:
        """Yield (index, frame) in increasing order, from the key frame with index `key` or an earlier one."""
        if key > 0:
            with self._open() as (container, stream):
                start = self._seek(container, stream, key)
                if start is not None:
                    yield from self._decode(container, stream, start)
                    return
        with self._open() as (container, stream):
            yield from self._decode(container, stream, self._stamps[0] if self._stamps else None)

    def _seek(self, container: InputContainer, stream: av.VideoStream, key: int) -> int | None:
        """Seek to a key frame; return the first time stamp that decodes completely, None if seeking fails."""
        # A demuxer that seeks by decoding time can land too late: check the position, then retry an earlier key frame.
        for place in range(bisect_right(self._keys, key) - 1, 0, -1)[:3]:
            asked = self._stamps[self._keys[place]]
            try:
                container.seek(asked, stream=stream)
                landed = next((packet.pts for packet in _packets(container, stream) if packet.is_keyframe), None)
                container.seek(asked, stream=stream)
            except av.FFmpegError:
                return None
            if landed is not None and landed <= self._stamps[key]:
                return landed
        return None

    def _decode(self, container: InputContainer, stream: av.VideoStream, start: int | None) -> Iterator[Indexed]:
        """Yield (index, frame) from time stamp `start` on; count the frames if there are no time stamps."""
        last = -1
        for picture in decode_frames(container, stream):
            index = last + 1
            if start is not None:
                if picture.pts is None or picture.pts < start:
                    continue
                index = bisect_left(self._stamps, picture.pts)
                if index == len(self._stamps) or self._stamps[index] != picture.pts or index <= last:
                    continue
            last = index
            yield index, picture


class _Cursor:
    """Forward cursor over decoded frames; it reads beyond a target only if the target is missing."""

    def __init__(self, pictures: Iterator[Indexed]) -> None:
        self._pictures = pictures
        self._held: Indexed | tuple[int, None] = (-1, None)
        self._ahead: Indexed | None = None

    @property
    def index(self) -> int:
        """Index of the current frame; -1 before the first one."""
        return self._held[0]

    def advance(self, target: int) -> Indexed | tuple[int, None]:
        """Return the last frame not after `target`, else the first one after it, else (-1, None)."""
        while self.index < target:
            self._ahead = self._ahead or next(self._pictures, None)
            if self._ahead is None or self._ahead[0] > target:
                break
            self._held, self._ahead = self._ahead, None
        return self._ahead if self._ahead is not None and self.index < 0 else self._held

    def close(self) -> None:
        if isinstance(self._pictures, Generator):
            self._pictures.close()


def find_video(container: InputContainer, name: str, max_pixels: int) -> av.VideoStream:
    """Return the video stream of an open container; the cover picture of an audio file is not one.

    Raises:
        ValueError: there is no video, or its frames are too large.
    """
    videos = [stream for stream in container.streams.video if stream.codec_context is not None]
    moving = [stream for stream in videos if not stream.disposition & Disposition.attached_pic]
    if videos and not moving:
        raise ValueError(f"{name}: audio with a cover picture and no video; give a video, or the cover as a picture")
    if not moving:
        raise ValueError(f"{name}: there is no video that can be decoded; convert it to MP4 (H.264)")
    best = container.streams.best("video")
    stream = next((one for one in moving if one is best), moving[0])
    context = stream.codec_context
    if context.width and context.height:
        check_size(name, context.height, context.width, max_pixels)
    context.options = {"max_pixels": str(max_pixels)}
    return stream


def to_rgb(picture: av.VideoFrame, height: int, width: int) -> Frame:
    """Convert a decoded frame to upright RGB, transparent parts white.

    Args:
        picture: the decoded frame.
        height, width: size of the result, px; 0 keeps the frame's own size.

    Returns:
        uint8 (H, W, 3).
    """
    matrix = picture.side_data.get("DISPLAYMATRIX")
    turn = orientation.from_matrix(bytes(matrix) if matrix else b"")
    if turn in orientation.SWAPPED:
        height, width = width, height
    has_alpha = any(part.is_alpha for part in picture.format.components) or picture.format.name == "pal8"
    layout = "rgba" if has_alpha else "rgb24"
    pixels = np.asarray(picture.reformat(width or None, height or None, layout).to_ndarray(), np.uint8)
    return orientation.upright(on_white(Image.fromarray(pixels)) if has_alpha else pixels, turn)


def _packets(container: InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """Yield the packets with content, up to the end or to where the file is cut off."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except (av.FFmpegError, OSError, IndexError):  # IndexError: a damaged file announces another stream
        return


def decode_frames(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Yield every frame that decodes, in display order; skip damaged packets."""
    for packet in chain(_packets(container, stream), [None]):  # None flushes the decoder
        try:
            pictures = stream.decode(packet)
        except (av.FFmpegError, OSError):
            continue
        yield from pictures


def _mean_rate(times: NDArray[np.float64], stated: float) -> float:
    """Return the mean number of frames per second; the stated rate counts for a single frame only."""
    if len(times) > 1 and times[-1] > 0:
        return min((len(times) - 1) / float(times[-1]), MAX_FPS)
    return stated if 0 < stated <= MAX_FPS else FALLBACK_FPS
