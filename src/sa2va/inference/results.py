"""Define predictions: text, masks per object and frame, overlays, COCO JSON.

Flow: engine.py, tracking/session.py -> FrameResult -> Prediction -> apps, evaluation.
Shapes: N objects, T frames, H W the input's own size.
"""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sa2va import masks
from sa2va.draw import overlay
from sa2va.files.atomic import write_text
from sa2va.files.claim import Claim
from sa2va.files.staging import staged
from sa2va.inference.requests import Options, Request
from sa2va.media.pictures import save_image
from sa2va.media.source import FRAME_DIGITS, Media
from sa2va.media.writer import VideoWriter
from sa2va.types import Masks

PICTURE_FILES = (r"overlay\.png", r"annotations\.json", r"mask_\d+\.png")
CLIP_FILES = (r"overlay\.mp4", r"annotations\.json", r"mask_\d+/\d+\.png")


@dataclass(frozen=True, kw_only=True)
class ObjectMasks:
    """Masks of one object of an answer, in all frames."""

    id: int  # counts from 1 in the order of the answer
    phrase: str | None  # the grounded phrase, if the answer has one
    presence: float  # 0..1, probability that the object is there at all
    scores: NDArray[np.float32]  # (T,) expected IoU, 0..1
    rles: tuple[masks.RLE, ...]  # T of them, COCO run lengths

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(T, H, W)."""
        return np.stack([masks.decode_rle(rle) for rle in self.rles])


@dataclass(frozen=True, kw_only=True)
class FrameObject:
    """One object in one frame of a track."""

    id: int
    phrase: str | None
    presence: float  # 0..1, probability that the object is in this frame
    score: float  # expected IoU, 0..1
    mask: NDArray[np.bool_]  # (H, W)

    @property
    def rle(self) -> masks.RLE:
        return masks.encode_rle(self.mask)


@dataclass(frozen=True, kw_only=True)
class FrameResult:
    """All objects of one frame."""

    index: int
    time: float  # s from the first frame
    objects: tuple[FrameObject, ...]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Text and masks of one answer."""

    text: str
    media: Media = field(repr=False)  # the input, for overlays
    sources: tuple[Path, ...] = field(default=(), repr=False)  # further input files
    num_frames: int = 1
    objects: tuple[ObjectMasks, ...] = ()

    @classmethod
    def collect(
        cls,
        results: Iterable[FrameResult],
        presence: Mapping[int, float],
        *,
        text: str,
        media: Media,
        sources: tuple[Path, ...] = (),
    ) -> "Prediction":
        """Collect the frame results of a whole track as RLE masks.

        Args:
            results: one per frame, each with all objects; read once.
            presence: by object id, 0..1.
            text: of the answer.
            media: what was tracked.
            sources: further input files, besides those of `media`.
        """
        tracks: dict[int, list[tuple[str | None, float, masks.RLE]]] = {key: [] for key in presence}
        num_frames = 0
        for num_frames, result in enumerate(results, 1):  # noqa: B007
            for found in result.objects:
                tracks[found.id].append((found.phrase, found.score, found.rle))
        objects = tuple(
            ObjectMasks(
                id=key,
                phrase=track[0][0],
                presence=presence[key],
                scores=np.array([score for _, score, _ in track], dtype=np.float32),
                rles=tuple(rle for _, _, rle in track),
            )
            for key, track in tracks.items()
        )
        num_frames = num_frames or media.num_frames or 1
        return cls(text=text, media=media, sources=sources, num_frames=num_frames, objects=objects)

    def split(self, parts: Iterable[tuple[str, int]]) -> "list[Prediction]":
        """Split the objects of several answers that were tracked together.

        Args:
            parts: text and number of objects of each answer; its ids count from 1 again.
        """
        rest = iter(self.objects)
        return [
            replace(
                self,
                text=text,
                objects=tuple(replace(one, id=number) for number, one in enumerate(islice(rest, count), 1)),
            )
            for text, count in parts
        ]

    @property
    def masks(self) -> Masks:
        """(N, T, H, W) at the input's own size, decoded on demand."""
        if not self.objects:
            return np.zeros((0, self.num_frames, self.media.height, self.media.width), dtype=bool)
        return np.stack([item.masks for item in self.objects])

    def labels(self) -> list[str]:
        """Return the overlay label of each object: its id with the phrase or the expected IoU."""
        return [f"{o.id} {o.phrase}" if o.phrase else f"{o.id}  {o.scores.max():.2f}" for o in self.objects]

    def plot(self, frame: int = 0) -> NDArray[np.uint8]:
        """Draw the masks of one frame over it: uint8 (H, W, 3).

        Raises:
            ValueError: there is no such frame, or the source was an iterator, which cannot be read twice.
        """
        return self._draw(self.media.frame(frame), frame)

    def _draw(self, picture: NDArray[np.uint8], frame: int) -> NDArray[np.uint8]:
        found = [masks.decode_rle(item.rles[frame]) for item in self.objects]
        return overlay.overlay(picture, np.stack(found), self.labels()) if found else picture

    def save(self, folder: str | Path) -> list[Path]:
        """Write the overlay (PNG, or MP4 for a clip), one mask PNG per object and frame, and COCO JSON.

        All files appear or none. Files of an earlier answer in the folder are deleted; files of a user stay. For a
        source that cannot be read twice, such as an iterator, a warning replaces the overlay.

        Returns:
            The paths of all files.

        Raises:
            ValueError: the folder cannot be written, or the media no longer exists. Also if a file to be replaced was
                not written by us, was changed later, or is the media itself.
        """
        if not isinstance(folder, str | Path):
            raise ValueError(f"folder {folder!r:.60}: expected a path, as in 'out'")
        sources = (*self.media.files, *self.sources)
        with staged(folder, claim_files(is_image=self.num_frames == 1), sources) as scratch:
            assert scratch is not None
            return [Path(folder) / path.relative_to(scratch) for path in self.write(scratch)]

    def write(self, folder: Path) -> list[Path]:
        """Write the files of `save` into a new folder and return their paths."""
        paths = [self._save_overlay(folder)] if self.media.seekable else []
        if not paths:
            warnings.warn(f"{self.media.name}: no overlay, its frames cannot be read a second time", stacklevel=2)
        for item in self.objects:
            for frame, rle in enumerate(item.rles):
                name = f"mask_{item.id}.png" if self.num_frames == 1 else self._frame_name(item.id, frame)
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                save_image(path, masks.decode_rle(rle))
                paths.append(path)
        coco = folder / "annotations.json"
        write_text(coco, json.dumps(self.to_coco()) + "\n")
        return [*paths, coco]

    @staticmethod
    def _frame_name(object_id: int, frame: int) -> str:
        return f"mask_{object_id}/{frame:0{FRAME_DIGITS}d}.png"

    def _save_overlay(self, folder: Path) -> Path:
        if self.num_frames == 1:
            path = folder / "overlay.png"
            save_image(path, self.plot())
            return path
        path = folder / "overlay.mp4"
        times = self.media.times
        with VideoWriter(path, self.media.fps, (self.media.height, self.media.width)) as writer:
            for frame, picture in enumerate(islice(self.media, self.num_frames)):
                writer.write(self._draw(picture, frame), None if times is None else float(times[frame]))
        return path

    def to_coco(self) -> dict[str, Any]:
        """Return COCO JSON: one annotation per object for an image, COCO-video tracks for a clip."""
        names = list(dict.fromkeys(item.phrase or "object" for item in self.objects))
        categories = [{"id": index + 1, "name": name} for index, name in enumerate(names)]
        info = {"description": self.text}
        if self.num_frames > 1:
            video = describe_video(self.media, self.num_frames)
            tracks = [self._coco_track(item, names) for item in self.objects]
            return {"info": info, "videos": [video], "annotations": tracks, "categories": categories}
        size = {"width": self.media.width, "height": self.media.height}
        image = {"id": 1, "file_name": Path(self.media.name).name, **size}
        found = [self._coco_object(item, names) for item in self.objects]
        return {"info": info, "images": [image], "annotations": found, "categories": categories}

    @staticmethod
    def _coco_base(item: ObjectMasks, names: list[str]) -> dict[str, Any]:
        return {
            "id": item.id,
            "category_id": names.index(item.phrase or "object") + 1,
            "iscrowd": 0,
            "score": round(float(item.scores.max()), 4),
            "presence": round(item.presence, 4),
        }

    def _coco_object(self, item: ObjectMasks, names: list[str]) -> dict[str, Any]:
        annotation = {"image_id": 1, "segmentation": item.rles[0]}
        return self._coco_base(item, names) | annotation | _box_and_area(item.rles[0])

    def _coco_track(self, item: ObjectMasks, names: list[str]) -> dict[str, Any]:
        frames = [_box_and_area(rle) for rle in item.rles]
        track = {
            "video_id": 1,
            "segmentations": [rle if f["area"] else None for rle, f in zip(item.rles, frames, strict=True)],
            "bboxes": [f["bbox"] if f["area"] else None for f in frames],
            "areas": [f["area"] or None for f in frames],
        }
        return self._coco_base(item, names) | track

    def to_supervision(self, frame: int = 0) -> Any:
        """Return `supervision.Detections` of one frame.

        Raises:
            ValueError: the library is not installed.
        """
        try:
            import supervision  # ty: ignore
        except ImportError as error:
            raise ValueError("to_supervision needs the supervision library: pip install supervision") from error
        found = self.masks[:, frame]
        scores = np.array([item.scores[frame] for item in self.objects], dtype=np.float32)
        ids = np.array([item.id for item in self.objects], dtype=int)
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(found), mask=found, confidence=scores, class_id=ids * 0, tracker_id=ids
        )


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Outcome of one request of a batch: a prediction, or an error."""

    prediction: Prediction | None = None
    error: Exception | None = None  # ValueError: bad input; Cancelled: the stop flag was set

    def unwrap(self) -> Prediction:
        """Return the prediction, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.prediction is not None
        return self.prediction


class Answers(Protocol):
    """Interface of a model that answers batches: `Predictor.answer_batch`."""

    def answer_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[BatchResult]: ...


def claim_files(*, is_image: bool) -> Claim:
    """Return the Claim to the files that hold the results of an image or clip."""
    return Claim(PICTURE_FILES, CLIP_FILES) if is_image else Claim(CLIP_FILES, PICTURE_FILES)


def describe_video(media: Media, num_frames: int) -> dict[str, Any]:
    """Return the entry of a clip under "videos" in COCO-video JSON, with one name per frame."""
    return {
        "id": 1,
        "file_name": Path(media.name).name,
        "file_names": media.frame_names(num_frames),
        "width": media.width,
        "height": media.height,
        "length": num_frames,
        "fps": media.fps,
    }


def _box_and_area(rle: masks.RLE) -> dict[str, Any]:
    """Return the COCO box (x, y, width, height) and the area of a mask, in px."""
    box = masks.bbox(masks.decode_rle(rle))
    x0, y0, x1, y1 = box if box is not None else (0.0, 0.0, 0.0, 0.0)
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": masks.area(rle)}
