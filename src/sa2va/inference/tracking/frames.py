"""Yield the frames of a source one by one, ready for SAM 2.

Flow: Media -> decoded, then resized, read ahead for files -> FrameStream -> SeenFrame -> session.py.
Shapes: H W picture, S SAM 2 input side.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2va.inference.requests import check_count
from sa2va.inference.tracking.read_ahead import ReadAhead
from sa2va.media.source import Media
from sa2va.model.processor import Processor
from sa2va.model.sam.sam2 import FrameFeatures
from sa2va.model.torch_defaults import plain_inference

Encode = Callable[[Tensor], FrameFeatures]  # uint8 (F, S, S, 3) -> features
BACKWARD_BLOCK = 16  # frames decoded at once when reading backwards


@dataclass(eq=False)
class Chunk:
    """Batch of frames, encoded lazily: at the first request for the features of any frame."""

    sam_frames: list[Tensor]  # uint8, each (1, S, S, 3)
    encode: Encode
    _features: FrameFeatures | None = field(default=None, repr=False)

    def features(self, row: int) -> FrameFeatures:
        """Return SAM 2's features of one of the frames, F = 1."""
        if self._features is None:
            with torch.no_grad():
                self._features = self.encode(torch.cat(self.sam_frames))
        return self._features.select(slice(row, row + 1))


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """Frame of a source, with its SAM 2 input and features."""

    index: int
    time: float  # s from the first frame
    image: NDArray[np.uint8]  # (H, W, 3)
    chunk: Chunk = field(repr=False)
    row: int = 0  # index of this frame in its chunk
    known: FrameFeatures | None = field(default=None, repr=False)  # features encoded before, as a key frame

    @property
    def sam_frame(self) -> Tensor:
        """Input of SAM 2, uint8 (1, S, S, 3)."""
        return self.chunk.sam_frames[self.row]

    @property
    def features(self) -> FrameFeatures:
        """SAM 2's features of this frame, F = 1."""
        return self.chunk.features(self.row) if self.known is None else self.known


class FrameStream:
    """Iterator over all frames. Single use; close() releases files, connections and the thread."""

    def __init__(
        self, media: Media, processor: Processor, encode: Encode, *, chunk: int = 1, prefetch: bool = True
    ) -> None:
        """Prepare the stream; nothing is read before the first `next()`.

        Args:
            media: source of the frames.
            processor: resizes for SAM 2.
            encode: runs SAM 2's image encoder.
            chunk: number of frames encoded at once.
            prefetch: decode and resize ahead of time in threads. A source without a length is never read ahead:
                its next frame may depend on the result of the last one.
        """
        chunk = check_count("chunk", chunk)
        self._media, self._encode = media, encode
        self._read = _read(media, chunk)
        ahead = prefetch and media.num_frames is not None and media.num_frames > chunk

        def prepare(group: list[NDArray[np.uint8]]) -> list[tuple[NDArray[np.uint8], Tensor]]:
            return [(frame, processor.sam_frames(frame[None])) for frame in group]

        self._groups = ReadAhead(self._read, prepare) if ahead else map(prepare, self._read)
        self._ready: list[SeenFrame] = []
        self._known: dict[int, FrameFeatures] = {}  # by index, of key frames ahead
        self._failed: Exception | None = None  # StopIteration included
        self._count = 0
        self._times = media.times

    def __iter__(self) -> Iterator[SeenFrame]:
        return self

    def __next__(self) -> SeenFrame:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        self._fill()
        seen = self._ready.pop(0)
        return replace(seen, known=self._known.pop(seen.index, None))

    @plain_inference()
    def encode_next(self) -> None:
        """Encode the next frame now if it is read ahead; on a GPU it is encoded while the host does other work.

        An error, of reading or encoding, is raised where the frame is due.
        """
        if not isinstance(self._groups, ReadAhead):
            return
        try:
            self._fill()
            seen = self._ready[0]
            if seen.index not in self._known:
                seen.chunk.features(seen.row)
        except Exception as error:
            self._failed = error

    def _fill(self) -> None:
        """Read the next frames if none is ready."""
        if not self._ready:
            group = next(self._groups)
            chunk = Chunk([sam_frame for _, sam_frame in group], self._encode)
            for row, (image, _) in enumerate(group):
                self._ready.append(SeenFrame(self._count, self.time(self._count), image, chunk, row))
                self._count += 1

    def keep(self, index: int, features: FrameFeatures) -> None:
        """Keep the features of a key frame, F = 1, until the iterator has reached it."""
        if index >= self._count - len(self._ready):
            self._known[index] = features

    def time(self, index: int) -> float:
        """Return the presentation time of a frame, s from the first one."""
        return index / self._media.fps if self._times is None else float(self._times[index])

    def close(self) -> None:
        """End the iteration and release the source and the thread."""
        self._ready.clear()
        self._known.clear()
        self._failed = None
        if isinstance(self._groups, ReadAhead):
            self._groups.close()
        else:
            self._read.close()
        self._media.close()


def _read(media: Media, chunk: int) -> Generator[list[NDArray[np.uint8]]]:
    frames = iter(media)
    try:
        while group := list(islice(frames, chunk)):
            yield group
    finally:
        if isinstance(frames, Generator):
            frames.close()


def read_backwards(media: Media, before: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield index and frame (H, W, 3) from `before` - 1 down to 0, BACKWARD_BLOCK frames in memory at a time."""
    for end in range(before, 0, -BACKWARD_BLOCK):
        indices = range(max(end - BACKWARD_BLOCK, 0), end)
        yield from zip(reversed(indices), media.frames(indices)[::-1], strict=True)
