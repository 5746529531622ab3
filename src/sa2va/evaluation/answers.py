"""Store what a model answered: text, run-length masks, scores and time, without the media.

Flow: Prediction -> Answer -> answers-*.jsonl (answer pass) -> Answer -> score of a benchmark (score pass).
Shapes: N objects, T frames, H W the medium.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sa2va.inference.results import ObjectMasks, Prediction
from sa2va.masks import RLE, decode_rle
from sa2va.tokens import SEG_TOKEN
from sa2va.types import Masks


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model answered to one request.

    Attributes:
        text: with the mask tokens, as `Prediction.text`.
        size: (H, W) px of the medium.
        num_frames: T, 1 for a picture.
        objects: N of them, each with T masks.
        seconds: time of the model; its share of the batch.
    """

    text: str
    size: tuple[int, int]
    num_frames: int = 1
    objects: tuple[ObjectMasks, ...] = ()
    seconds: float = 0.0

    @classmethod
    def of(cls, prediction: Prediction, seconds: float = 0.0) -> Self:
        """Take over a prediction."""
        media = prediction.media
        return cls(
            text=prediction.text, size=(media.height, media.width), num_frames=prediction.num_frames,
            objects=prediction.objects, seconds=seconds,
        )  # fmt: skip

    @classmethod
    def of_masks(
        cls,
        tracks: Sequence[Sequence[RLE]],
        size: tuple[int, int],
        num_frames: int = 1,
        *,
        scores: Sequence[float] | None = None,
        phrases: Sequence[str | None] | None = None,
        text: str = "",
    ) -> Self:
        """Build the answer of another program, all of whose objects are there.

        Args:
            tracks: N tracks of T masks.
            size: (H, W) px.
            num_frames: T.
            scores: expected IoU of each object on all frames, 0..1; None = 1.
            phrases: phrase of each object; None = none.
            text: "" = a mask token per object.
        """
        sure, named = scores or [1.0] * len(tracks), phrases or [None] * len(tracks)
        objects = tuple(
            ObjectMasks(
                id=number, phrase=phrase, presence=1.0, scores=np.full(num_frames, score, np.float32), rles=tuple(rles)
            )
            for number, (rles, score, phrase) in enumerate(zip(tracks, sure, named, strict=True), 1)
        )
        return cls(text=text or SEG_TOKEN * len(objects), size=size, num_frames=num_frames, objects=objects)

    def masks_at(self, frame: int) -> NDArray[np.bool_]:
        """Decode the masks of one frame: (N, H, W)."""
        masks = np.zeros((len(self.objects), *self.size), bool)
        for row, found in enumerate(self.objects):
            masks[row] = decode_rle(found.rles[frame])
        return masks

    def union_at(self, frame: int) -> NDArray[np.bool_]:
        """Decode the union of all masks of one frame: (H, W); empty without objects."""
        return np.asarray(self.masks_at(frame).any(axis=0))

    @property
    def masks(self) -> Masks:
        """Decode all masks: (N, T, H, W). For pictures and short clips; a long clip is scored frame by frame."""
        masks = np.zeros((len(self.objects), self.num_frames, *self.size), bool)
        for frame in range(self.num_frames):
            masks[:, frame] = self.masks_at(frame)
        return masks

    def to_record(self) -> dict[str, Any]:
        """Return JSON values."""
        objects = [
            {
                "id": found.id,
                "phrase": found.phrase,
                "presence": float(found.presence),
                "scores": [float(score) for score in found.scores],
                "counts": [rle["counts"] for rle in found.rles],
            }
            for found in self.objects
        ]
        return {
            "text": self.text,
            "size": list(self.size),
            "num_frames": self.num_frames,
            "objects": objects,
            "seconds": round(self.seconds, 4),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read JSON values of `to_record`.

        Raises:
            KeyError, TypeError: they are not complete.
        """
        height, width = record["size"]
        objects = tuple(
            ObjectMasks(
                id=one["id"],
                phrase=one["phrase"],
                presence=one["presence"],
                scores=np.array(one["scores"], np.float32),
                rles=tuple(RLE(size=[height, width], counts=counts) for counts in one["counts"]),
            )
            for one in record["objects"]
        )
        return cls(
            text=record["text"], size=(height, width), num_frames=record["num_frames"], objects=objects,
            seconds=record["seconds"],
        )  # fmt: skip


ReadAnswers = Callable[[], list[Answer]]  # reads the answers to an item that another program wrote
