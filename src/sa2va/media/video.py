"""Decode video files frame-exactly at constant memory.

Flow: media.py -> open_video -> frames, uint8 (H, W, 3), one at a time. PyAV decodes; where it is missing, OpenCV.
Source: FFmpeg (https://ffmpeg.org), whose demuxers are restricted to the containers below: a playlist, for
    one, could make it open other files.
Shapes: T frames, H W picture.
"""

import importlib
import math
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sa2va.files import read_limits
from sa2va.files.read_limits import check_size
from sa2va.media import orientation
from sa2va.media.containers import display_matrix
from sa2va.media.pictures import on_white

Frame = NDArray[np.uint8]  # (H, W, 3)

DEMUXERS = "mov,matroska,avi,mpegts,ogg,flv,asf"
LARGE_FRAME = 4096 * 2176  # px
FALLBACK_FPS = 25.0  # of a video with a single frame that names no rate
MAX_FPS = 1000.0  # a header can claim anything


def open_video(path: Path, *, max_pixels: int, max_frames: int) -> "VideoReader | OpenCVReader":
    """Open a video file and count its frames.

    Raises:
        ValueError: the file is damaged, holds no pictures, or is over a cap.
    """
    reader = VideoReader if pyav() is not None else OpenCVReader
    return reader(path, max_pixels=min(max_pixels, read_limits.MAX_VIDEO_PIXELS), max_frames=max_frames)


class VideoReader:
    """A video file, addressed by frame number.

    The time stamps of the packets, read without decoding, number the frames: frame i is what a player shows
    at the i-th time stamp. The length in the header is not used. A packet that does not decode repeats the
    picture before it, with a warning, so that the numbers hold for damaged files too.
    """

    def __init__(self, path: Path, *, max_pixels: int, max_frames: int) -> None:
        self.name, self._path, self._max_pixels = str(path), path, max_pixels
        self._stamps: list[int] = []  # of all frames, increasing; empty where the container has none
        self._keys: list[int] = []  # indices of the frames at which decoding can start
        self._warned = False
        self.height = self.width = 0  # until the first picture tells
        with self._open() as (container, stream):
            rate, tick = float(stream.average_rate or 0), float(stream.time_base)
            stamps, usable = self._scan(container, stream, max_frames)
        if usable:
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
        """Yield the frames at increasing indices, seeking only where that saves decoding."""
        cursor = _Cursor(iter(()))
        try:
            for target in indices:
                key = self._key_before(target)
                if cursor.index < key or cursor.index < 0:
                    cursor.close()
                    cursor = _Cursor(self._pictures(key))
                index, picture = cursor.advance(target)
                if key > 0 and (picture is None or index > target):
                    # Nothing decodes from the key frame to the target: show what a full pass would show.
                    cursor.close()
                    cursor = _Cursor(self._pictures(0))
                    index, picture = cursor.advance(target)
                if picture is None:
                    return
                if index != target:
                    self._warn(target)
                yield to_rgb(picture, self.height, self.width)
        finally:
            cursor.close()

    @contextmanager
    def _open(self) -> Generator[tuple[Any, Any]]:
        """Open the file anew, so that any number of passes can run side by side."""
        av = pyav()
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file", "max_pixels": str(self._max_pixels)}
        try:
            # "file:" keeps a colon in a name from being read as a protocol.
            container = av.open(f"file:{self._path}", metadata_errors="replace", options=options)
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ValueError(f"{self._path}: not a readable video ({reason}); convert it to MP4 (H.264)") from None
        with container:
            stream = find_video(container, self.name, self._max_pixels)
            # A thread that decodes a frame of its own holds it: large frames are divided among the threads.
            area = stream.codec_context.width * stream.codec_context.height
            stream.thread_type = "SLICE" if area > LARGE_FRAME else "AUTO"
            yield container, stream

    def _scan(self, container: Any, stream: Any, max_frames: int) -> tuple[list[tuple[int, bool]], bool]:
        """List (time stamp, is a key frame) per packet, and tell whether the time stamps can number the frames."""
        stamps: list[tuple[int, bool]] = []
        if container.format.name == "avi":  # it stores no presentation times, FFmpeg makes them up
            return [], False
        for packet in _packets(container, stream):
            if packet.pts is None:
                return [], False
            if not packet.is_discard:  # decoded for its successors' sake and not shown
                stamps.append((packet.pts, packet.is_keyframe))
            read_limits.check_frames(self.name, len(stamps), max_frames)
        return stamps, len({stamp for stamp, _ in stamps}) == len(stamps)

    def _count_by_decoding(self, max_frames: int) -> int:
        """Count the frames of a container whose time stamps cannot number them."""
        count, num_bytes = 0, self._path.stat().st_size
        with closing(self._pictures(0)) as pictures:
            watched = read_limits.watched(pictures, self.name, "frames counted")
            for count, (_, picture) in enumerate(watched, 1):  # noqa: B007
                read_limits.check_frames(self.name, count, max_frames)
                size, bound = (picture.height, picture.width), read_limits.VIDEO_WORK_PER_BYTE
                read_limits.check_work(self.name, *size, count, num_bytes, per_byte=bound, most=math.inf)
        return count

    def _key_before(self, index: int) -> int:
        place = bisect_right(self._keys, index)
        return self._keys[place - 1] if place else 0

    def _pictures(self, key: int) -> Generator[tuple[int, Any]]:
        """Decode from the key frame with index `key`, or one before it; yield (index, picture), increasing."""
        if key > 0:
            with self._open() as (container, stream):
                whole_from = self._seek(container, stream, key)
                if whole_from is not None:
                    yield from self._decode(container, stream, whole_from)
                    return
        with self._open() as (container, stream):
            yield from self._decode(container, stream, self._stamps[0] if self._stamps else None)

    def _seek(self, container: Any, stream: Any, key: int) -> int | None:
        """Go to a key frame; return the time stamp from which on pictures are whole, None where that fails."""
        # Demuxers that seek by decoding time can land late: look where we are, and ask for less.
        for place in range(bisect_right(self._keys, key) - 1, 0, -1)[:3]:
            asked = self._stamps[self._keys[place]]
            try:
                container.seek(asked, stream=stream)
                landed = next((packet.pts for packet in _packets(container, stream) if packet.is_keyframe), None)
                container.seek(asked, stream=stream)
            except pyav().error.FFmpegError:
                return None
            if landed is not None and landed <= self._stamps[key]:
                return landed
        return None

    def _decode(self, container: Any, stream: Any, whole_from: int | None) -> Iterator[tuple[int, Any]]:
        last = -1
        for picture in decode_pictures(container, stream):
            index = last + 1
            if whole_from is not None:
                if picture.pts is None or picture.pts < whole_from:
                    continue
                index = bisect_left(self._stamps, picture.pts)
                if index == len(self._stamps) or self._stamps[index] != picture.pts or index <= last:
                    continue
            last = index
            yield index, picture

    def _warn(self, index: int) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"{self.name}: frame {index} is damaged and shows its neighbour", stacklevel=3)


class _Cursor:
    """A pass over the decoded pictures that stops at chosen ones and looks ahead only where one is missing."""

    def __init__(self, pictures: Iterator[tuple[int, Any]]) -> None:
        self._pictures = pictures
        self._held: tuple[int, Any] = (-1, None)
        self._ahead: tuple[int, Any] | None = None

    @property
    def index(self) -> int:
        """Of the picture we stand at; -1 before the first one."""
        return self._held[0]

    def advance(self, target: int) -> tuple[int, Any]:
        """Return the last picture not after `target`, else the first one after it, else (-1, None)."""
        while self.index < target:
            self._ahead = self._ahead or next(self._pictures, None)
            if self._ahead is None or self._ahead[0] > target:
                break
            self._held, self._ahead = self._ahead, None
        return self._ahead if self._ahead is not None and self.index < 0 else self._held

    def close(self) -> None:
        if isinstance(self._pictures, Generator):
            self._pictures.close()


class OpenCVReader:
    """The same without PyAV: exact too, but every pass decodes from the start, and opening decodes all once."""

    def __init__(self, path: Path, *, max_pixels: int, max_frames: int) -> None:
        self.name, self._path = str(path), path
        # OpenCV knows of turns only, and a mirrored picture is none.
        self._orientation = orientation.from_matrix(display_matrix(path), ">")
        milliseconds = []
        with self._open() as capture:
            check_size(self.name, *(int(capture.get(side)) for side in self._SIZE), max_pixels)
            rate = capture.get(cv2.CAP_PROP_FPS)
            for _ in read_limits.watched(iter(capture.grab, False), self.name, "frames counted"):
                milliseconds.append(capture.get(cv2.CAP_PROP_POS_MSEC))
                read_limits.check_frames(self.name, len(milliseconds), max_frames)
        if not milliseconds:
            raise ValueError(f"{path}: no frame of the video can be decoded; it is empty or damaged")
        self.num_frames = len(milliseconds)
        times = np.array(milliseconds, np.float64) / 1000
        if not (np.diff(times) > 0).all():  # as in AVI, which stores no presentation times
            times = np.arange(self.num_frames) / (rate if 0 < rate <= MAX_FPS else FALLBACK_FPS)
        self.times = times - times[0]  # (T,) seconds
        self.fps = _mean_rate(self.times, rate)
        self.height, self.width = next(self.read([0])).shape[:2]

    _SIZE = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)

    def read(self, indices: Iterable[int]) -> Iterator[Frame]:
        with self._open() as capture:
            position = -1
            for target in indices:
                while position < target and capture.grab():
                    position += 1
                good, frame = capture.retrieve()
                if not good:
                    raise ValueError(f"{self.name}: frame {target} can no longer be decoded; the file has changed")
                picture = np.asarray(frame[..., ::-1], np.uint8, order="C")  # BGR -> RGB
                yield orientation.upright(picture, self._orientation)

    @contextmanager
    def _open(self) -> Generator[cv2.VideoCapture]:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        try:
            if not capture.isOpened():
                raise ValueError(f"{self._path}: not a readable video; convert it to MP4 (H.264)")
            if self._orientation != 1:
                capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
            yield capture
        finally:
            capture.release()


def find_video(container: Any, name: str, max_pixels: int) -> Any:
    """Return the video of an open container; a picture attached to sound is none.

    Raises:
        ValueError: there is no video, or its frames are too large.
    """
    av = pyav()
    videos = [stream for stream in container.streams.video if stream.codec_context is not None]
    cover = av.stream.Disposition.attached_pic
    moving = [stream for stream in videos if not stream.disposition & cover]
    if videos and not moving:
        raise ValueError(f"{name}: sound with a cover picture and no video; give a video, or the cover as a picture")
    if not moving:
        raise ValueError(f"{name}: there is no video that can be decoded; convert it to MP4 (H.264)")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    context = stream.codec_context
    if context.width and context.height:
        check_size(name, context.height, context.width, max_pixels)
    context.options = {"max_pixels": str(max_pixels)}
    return stream


def to_rgb(picture: Any, height: int, width: int) -> Frame:
    """Convert one decoded picture to upright RGB of a size in px, seen on white; 0 keeps its own size."""
    turn = _orientation_of(picture)
    if turn in orientation.SWAPPED:
        height, width = width, height
    if any(component.is_alpha for component in picture.format.components) or picture.format.name == "pal8":
        transparent = picture.reformat(width or None, height or None, "rgba").to_ndarray()
        return orientation.upright(on_white(Image.fromarray(transparent)), turn)
    return orientation.upright(picture.reformat(width or None, height or None, "rgb24").to_ndarray(), turn)


def _orientation_of(picture: Any) -> int:
    for data in picture.side_data:
        if data.type == pyav().sidedata.sidedata.Type.DISPLAYMATRIX:
            return orientation.from_matrix(bytes(data))
    return 1


def pyav() -> Any:
    """Return the module av, or None on a machine that does not have it."""
    try:
        return importlib.import_module("av")
    except ImportError:
        return None


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets that hold something, up to the end or to where the file is cut off."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except (pyav().error.FFmpegError, OSError, IndexError):  # IndexError: a damaged file announces another stream
        return


def decode_pictures(container: Any, stream: Any) -> Iterator[Any]:
    """Yield every picture that decodes, in the order they are shown; a damaged packet gives none."""
    for packet in chain(_packets(container, stream), [None]):  # None asks for the pictures still in the decoder
        try:
            pictures = stream.decode(packet)
        except (pyav().error.FFmpegError, OSError):
            continue
        yield from pictures


def _mean_rate(times: NDArray[np.float64], claimed: float) -> float:
    """Return the mean number of frames a second; what the header claims counts for a single frame only."""
    if len(times) > 1 and times[-1] > 0:
        return min((len(times) - 1) / float(times[-1]), MAX_FPS)
    return claimed if 0 < claimed <= MAX_FPS else FALLBACK_FPS
