"""Check the files of a track: frame numbers, sizes, colors, and JSON that COCO tools can read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sa2va.apps.track_files import TrackWriter
from sa2va.inference.results import FrameObject, FrameResult
from sa2va.masks import decode_rle
from sa2va.media.source import Media, open_media
from sa2va.media.writer import VideoWriter

HEIGHT, WIDTH, NUM_FRAMES = 24, 32, 5


@pytest.fixture
def media() -> Media:
    return open_media(np.full((NUM_FRAMES, HEIGHT, WIDTH, 3), 200, np.uint8), fps=10)


def square(left: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:12, left : left + 8] = True
    return mask


def found(number: int, mask: np.ndarray, phrase: str | None = None) -> FrameObject:
    return FrameObject(id=number, phrase=phrase, presence=0.9, score=0.75, mask=mask)


def write(folder: Path, media: Media, frames: list[list[FrameObject]]) -> dict[str, Any]:
    with TrackWriter(folder, media, ["the square"]) as writer:
        for index, (frame, objects) in enumerate(zip(media, frames, strict=True)):
            writer.add(frame, FrameResult(index=index, time=index / 10, objects=tuple(objects)))
    assert all(path.is_file() for path in writer.files)
    assert not [path for path in folder.iterdir() if path.suffix not in {".mp4", ".json", ""}]
    return json.loads((folder / "annotations.json").read_text())


def test_a_track_that_moves_and_vanishes(tmp_path: Path, media: Media) -> None:
    masks = [square(left) for left in (0, 4, 8)] + [np.zeros((HEIGHT, WIDTH), bool)] * 2
    coco = write(tmp_path, media, [[found(3, mask)] for mask in masks])
    assert coco["videos"][0] == {
        "id": 1,
        "file_name": "array",
        "file_names": [f"{index:05d}.png" for index in range(NUM_FRAMES)],
        "height": HEIGHT,
        "width": WIDTH,
        "length": NUM_FRAMES,
        "fps": 10.0,
    }
    (annotation,) = coco["annotations"]
    assert annotation["id"] == 3
    assert [run is None for run in annotation["segmentations"]] == [False] * 3 + [True] * 2
    assert np.array_equal(decode_rle(annotation["segmentations"][1]), masks[1])
    assert annotation["bboxes"] == [[0, 4, 8, 8], [4, 4, 8, 8], [8, 4, 8, 8], None, None]
    assert annotation["areas"] == [64, 64, 64, None, None]
    assert coco["categories"] == [{"id": 1, "name": "the square"}]
    for index, mask in enumerate(masks):
        png = np.array(Image.open(tmp_path / "mask_3" / f"{index:05d}.png"))
        assert png.dtype == np.uint8 and np.array_equal(png, mask * 255)


def test_the_overlay_plays_and_differs_where_a_mask_is(tmp_path: Path, media: Media) -> None:
    write(tmp_path, media, [[found(1, square(8), phrase="")] for _ in range(NUM_FRAMES)])
    overlay = open_media(tmp_path / "overlay.mp4")
    assert (overlay.num_frames, overlay.height, overlay.width, overlay.fps) == (NUM_FRAMES, HEIGHT, WIDTH, 10)
    frame = overlay.frame(2).astype(int)
    assert abs(frame[8, 12] - 200).max() > 30 and abs(frame[-2, -2] - 200).max() < 12


def test_the_overlay_keeps_the_times_of_the_clip(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 0.7, 1.2]
    with VideoWriter(tmp_path / "clip.mp4", 10) as video:
        for time in times:
            video.write(np.full((HEIGHT, WIDTH, 3), 200, np.uint8), time)
    media = open_media(tmp_path / "clip.mp4")
    (tmp_path / "out").mkdir()
    with TrackWriter(tmp_path / "out", media, ["the square"]) as writer:
        for index, (frame, time) in enumerate(zip(media, media.times, strict=True)):
            writer.add(frame, FrameResult(index=index, time=float(time), objects=()))
    assert open_media(tmp_path / "out" / "overlay.mp4").times.tolist() == pytest.approx(times, abs=1e-4)


def test_objects_may_come_and_go(tmp_path: Path, media: Media) -> None:
    one, two = found(1, square(0), "a square"), found(2, square(16))
    coco = write(tmp_path, media, [[one], [one, two], [two], [two], []])
    first, second = coco["annotations"]
    assert [first["phrase"], second["phrase"]] == ["a square", None]
    assert [run is not None for run in first["segmentations"]] == [True, True, False, False, False]
    assert [run is not None for run in second["segmentations"]] == [False, True, True, True, False]
    assert len(second["scores"]) == len(second["presences"]) == NUM_FRAMES


def test_nothing_found_is_an_empty_list_and_the_untouched_video(tmp_path: Path, media: Media) -> None:
    coco = write(tmp_path, media, [[] for _ in range(NUM_FRAMES)])
    assert coco["annotations"] == []
    assert abs(open_media(tmp_path / "overlay.mp4").frame(0).astype(int) - 200).max() <= 4
    assert not list(tmp_path.glob("mask*"))


def test_an_error_leaves_no_json(tmp_path: Path, media: Media) -> None:
    with pytest.raises(RuntimeError), TrackWriter(tmp_path, media, ["x"]):
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
