"""Write a track while it runs: overlay MP4, one mask PNG per object and frame, COCO-video JSON.

Flow: (frame, FrameResult) -> TrackWriter.add -> files; close() joins the JSON. Memory does
    not grow with the frames: run lengths are spooled to scratch files until the track ends.
Source: the COCO-video layout of YouTube-VIS (https://youtube-vos.org/dataset/vis/): per object a list over frames.
Shapes: N objects, H W picture.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from sa2va.draw.overlay import overlay
from sa2va.files.atomic import whole_file
from sa2va.inference.results import FrameResult, describe_video
from sa2va.masks import area, bbox
from sa2va.media.pictures import save_image
from sa2va.media.source import FRAME_DIGITS, Media
from sa2va.media.writer import VideoWriter

ABSENT: list[Any] = [None, None, 0.0, 0.0]  # run lengths, box, score, presence of an object that is not in a frame


class TrackWriter:
    """Writer of a track's results, frame by frame; a context manager."""

    def __init__(self, folder: Path, media: Media, expressions: Sequence[str]) -> None:
        """Open the overlay video.

        Args:
            folder: existing folder for the files.
            media: the video that is tracked; gives size, rate and name.
            expressions: tracked expressions, which become the categories of the JSON. The category of an object is the
                expression equal to its phrase, or else the first one.
        """
        self.folder = folder
        self.media = media
        self.expressions = list(expressions)
        self.num_frames = 0
        self.files = [folder / "overlay.mp4"]
        self.phrases: dict[int, str | None] = {}  # object id -> phrase, in order of appearance
        self._spools: dict[int, IO[str]] = {}
        self._video = VideoWriter(self.files[0], media.fps, (media.height, media.width))

    def __enter__(self) -> Self:
        self._video.__enter__()
        return self

    def add(self, frame: NDArray[np.uint8], result: FrameResult) -> None:
        """Write one frame.

        Args:
            frame: uint8 (H, W, 3), the frame that the result is about.
            result: its objects.
        """
        assert result.index == self.num_frames, f"frame {result.index} came where {self.num_frames} was due"
        for found in result.objects:
            self._start_object(found.id, found.phrase)
            record = [found.rle if found.mask.any() else None, bbox(found.mask), found.score, found.presence]
            self._spool(found.id, record)
            path = self.folder / f"mask_{found.id}" / f"{result.index:0{FRAME_DIGITS}d}.png"
            save_image(path, found.mask)
            self.files.append(path)
        for number in self.phrases.keys() - {found.id for found in result.objects}:
            self._spool(number, ABSENT)
        self._video.write(self._paint(frame, result), result.time)
        self.num_frames += 1

    def _paint(self, frame: NDArray[np.uint8], result: FrameResult) -> NDArray[np.uint8]:
        if not result.objects:
            return frame
        order = list(self.phrases)  # an object keeps its color when another one leaves
        return overlay(
            frame,
            np.stack([found.mask for found in result.objects]),  # (N, H, W)
            [found.phrase or self.expressions[0] for found in result.objects],
            colors=[order.index(found.id) for found in result.objects],
        )

    def _start_object(self, number: int, phrase: str | None) -> None:
        if number not in self._spools:
            self.phrases[number] = phrase
            self._spools[number] = TemporaryFile("w+", encoding="utf-8", dir=self.folder)
            for _ in range(self.num_frames):  # absent from all earlier frames
                self._spool(number, ABSENT)

    def _spool(self, number: int, record: list[Any]) -> None:
        self._spools[number].write(json.dumps(record) + "\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._video.__exit__(kind, error, trace)
            if error is None:
                self._write_json()
        finally:
            for spool in self._spools.values():
                spool.close()

    def _write_json(self) -> None:
        """Write the COCO-video file, one object in memory at a time."""
        video = describe_video(self.media, self.num_frames)
        path = self.folder / "annotations.json"
        with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
            file.write(f'{{"videos": [{json.dumps(video)}],\n')
            categories = [{"id": count, "name": name} for count, name in enumerate(self.expressions, start=1)]
            file.write(f'"categories": {json.dumps(categories)},\n"annotations": [')
            for count, number in enumerate(self._spools):
                file.write((",\n" if count else "\n") + json.dumps(self._annotation(number)))
            file.write("\n]}\n")
        self.files.append(path)

    def _annotation(self, number: int) -> dict[str, Any]:
        spool = self._spools[number]
        spool.seek(0)
        records = [json.loads(line) for line in spool]
        runs = [record[0] for record in records]
        boxes = [record[1] for record in records]  # x0, y0, x1, y1
        phrase = self.phrases[number]
        return {
            "id": number,
            "video_id": 1,
            "category_id": self.expressions.index(phrase) + 1 if phrase in self.expressions else 1,
            "phrase": phrase,
            "segmentations": runs,
            "bboxes": [box and [box[0], box[1], box[2] - box[0], box[3] - box[1]] for box in boxes],
            "areas": [run and area(run) for run in runs],
            "score": round(max(record[2] for record in records), 4),
            "presence": round(max(record[3] for record in records), 4),
            "scores": [round(record[2], 4) for record in records],
            "presences": [round(record[3], 4) for record in records],
            "iscrowd": 0,
        }
