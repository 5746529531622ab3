"""Define the types that cross floors: frames, masks, and the Sample that a dataset yields.

Flow: data/* -> Sample -> model/processor.py -> Batch -> model/sa2va.py -> LossTerms.
Shapes: M objects of a sample, T frames of a clip, H W picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # (H, W, 3), RGB
Frames = NDArray[np.uint8]  # (T, H, W, 3), RGB; T = 1 is an image
Masks = NDArray[np.bool_]  # (N, T, H, W)


class FrameSource(Protocol):
    """A picture or a clip whose frames are decoded on demand: `media.source.Media`, or `ArrayFrames`."""

    @property
    def num_frames(self) -> int | None: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def frames(self, indices: Sequence[int]) -> Frames: ...


class MaskTracks(Protocol):
    """Mask tracks of objects, decoded on demand: `ArrayTracks`, or annotations in `data.tracks.StoredTracks`."""

    def __len__(self) -> int: ...
    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks: ...


@dataclass(frozen=True)
class ArrayFrames:
    """Frames in memory."""

    array: Frames

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[-1] != 3 or self.array.dtype != np.uint8:
            raise ValueError(f"frames: expected uint8 (T, H, W, 3), got {self.array.dtype} {self.array.shape}")

    @property
    def num_frames(self) -> int:
        return self.array.shape[0]

    @property
    def height(self) -> int:
        return self.array.shape[1]

    @property
    def width(self) -> int:
        return self.array.shape[2]

    def frames(self, indices: Sequence[int]) -> Frames:
        """Return the frames at K indices, uint8 (K, H, W, 3)."""
        return self.array[list(indices)]


@dataclass(frozen=True)
class ArrayTracks:
    """Masks in memory."""

    array: Masks = field(default_factory=lambda: np.zeros((0, 1, 1, 1), bool))  # (M, T, H, W) visible pixels

    def __len__(self) -> int:
        return len(self.array)

    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks:
        """Return masks of n objects on K frames, bool (n, K, H, W)."""
        if not len(objects):
            return np.zeros((0, len(frames), *self.array.shape[2:]), bool)
        return self.array[list(objects)][:, list(frames)]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Span of an answer that is grounded in masks.

    `answer[start:end]` is the phrase. An empty phrase (start == end) inserts mask tokens without a phrase, as in
    the answer "It is ." of referring segmentation. The processor writes the mask tokens of each object; a dataset
    never does.
    """

    start: int
    end: int
    objects: tuple[int, ...]  # rows of Sample.tracks, in the order of their mask tokens

    def check(self, text: str, name: str) -> None:
        """Raise ValueError if the span lies outside `text`; `name` is the name of the text in the message."""
        if not 0 <= self.start <= self.end <= len(text):
            raise ValueError(f"span {self.start}:{self.end} lies outside the {name} of {len(text)} characters")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One question and its answer.

    `supervised=False` excludes the answer from the language loss; its masks keep their mask losses. Such
    turns train the presence head on absent objects, whose mask is empty in every frame.
    """

    question: str
    answer: str
    spans: tuple[Span, ...] = ()
    regions: tuple[NDArray[np.bool_], ...] = ()  # each (H, W), on the first frame: "region1", "region2", ...
    supervised: bool = True


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Training or evaluation sample: a conversation about one clip, about pictures, or without media.

    A sample does not depend on the tokenizer.

    Masks need exactly one clip or picture, since a mask track does not name its medium.
    """

    turns: tuple[Turn, ...]
    media: tuple[FrameSource, ...] = ()
    tracks: MaskTracks = ArrayTracks()
    task: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)  # further ground truth, for evaluation and auxiliary losses

    def __post_init__(self) -> None:
        for turn in self.turns:
            for span in turn.spans:
                span.check(turn.answer, "answer")
                if any(not 0 <= index < len(self.tracks) for index in span.objects):
                    raise ValueError(f"span refers to objects {span.objects}, the sample has {len(self.tracks)} masks")
        if any(turn.spans for turn in self.turns) and len(self.media) != 1:
            raise ValueError(f"{self.task or 'sample'}: masks need one picture or clip, got {len(self.media)}")
        if len(self.media) > 1 and any(one.num_frames != 1 for one in self.media):
            raise ValueError(f"{self.task or 'sample'}: several media must all be pictures; give a clip its own sample")

    @classmethod
    def of_arrays(cls, frames: Frames, turns: Sequence[Turn], masks: Masks | None = None, **more: Any) -> Self:
        """Build a sample about one picture or clip in memory: uint8 (T, H, W, 3), bool (M, T, H, W)."""
        tracks = ArrayTracks() if masks is None else ArrayTracks(masks)
        return cls(media=(ArrayFrames(frames),), turns=tuple(turns), tracks=tracks, **more)

    @property
    def num_frames(self) -> int:
        """Number of frames: T for a clip, 1 for pictures, 0 without media."""
        return (self.media[0].num_frames or 0) if self.media else 0

    @property
    def frames(self) -> Frames:
        """Decode the whole clip, or the first picture: uint8 (T, H, W, 3)."""
        return self.media[0].frames(range(self.num_frames))

    @property
    def masks(self) -> Masks:
        """Decode the masks of all objects on all frames: bool (M, T, H, W)."""
        return self.tracks.masks(range(len(self.tracks)), range(self.num_frames))
