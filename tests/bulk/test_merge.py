"""Test the joined files of a run against what its parts hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from support.bulk_files import finish, run, start, write_expressions, write_media

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq

from sa2va.bulk.merge import count_failures, is_merged, merge
from sa2va.bulk.plan import Plan
from sa2va.masks import decode_rle
from sa2va.media.source import open_media


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return write_media(tmp_path / "media")


@pytest.fixture
def output(media: Path, tmp_path: Path) -> Path:
    run(media, write_expressions(tmp_path / "texts.txt", "the box", "nothing", "the dark one"), tmp_path / "out")
    return tmp_path / "out"


def test_pictures_are_coco(media: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reader of pycocotools finds a mask for each picture and expression but "nothing"."""
    coco = COCO(output / "annotations.json")
    names = [coco.imgs[number]["file_name"] for number in sorted(coco.imgs)]
    assert names == ["more/p1.png", "more/p3.png", "p0.png", "p2.png"]
    assert {one["name"] for one in coco.cats.values()} == {"the box", "the dark one"}
    assert len(coco.anns) == 8
    for annotation in coco.anns.values():
        image = coco.imgs[annotation["image_id"]]
        dark = open_media(media / image["file_name"]).frame(0).mean(-1) < 128
        assert (image["height"], image["width"]) == dark.shape
        assert np.array_equal(coco.annToMask(annotation) > 0, dark)
        assert annotation["area"] == dark.sum() and annotation["presence"] == 0.97
        x, y, width, height = annotation["bbox"]
        assert dark[y : y + height, x : x + width].sum() == dark.sum() and "phrase" not in annotation


def test_clips_are_coco_video(media: Path, output: Path) -> None:
    tracks = json.loads((output / "tracks.json").read_text())
    assert tracks["videos"] == [{"id": 1, "file_name": "moving.gif", "width": 16, "height": 12, "length": 3}]
    assert [one["video_id"] for one in tracks["annotations"]] == [1, 1]
    track = tracks["annotations"][0]
    for frame, rle, area in zip(open_media(media / "moving.gif"), track["segmentations"], track["areas"], strict=True):
        assert np.array_equal(decode_rle(rle), frame.mean(-1) < 128) and decode_rle(rle).sum() == area


def test_failures_can_be_asked_again(media: Path, output: Path, tmp_path: Path) -> None:
    failures = [json.loads(line) for line in (output / "failures.jsonl").read_text().splitlines()]
    assert [(one["file"], one["expression"]) for one in failures] == [
        ("broken.jpg", text) for text in ("the box", "nothing", "the dark one")
    ]
    assert count_failures(Plan(output)) == 3
    (media / "broken.jpg").write_bytes((media / "p0.png").read_bytes())
    run(media, output / "failures.jsonl", tmp_path / "again")
    assert Plan(tmp_path / "again").num_items == 3 and count_failures(Plan(tmp_path / "again")) == 0
    assert not (tmp_path / "again" / "tracks.json").exists()  # no clips


def test_joined_files_of_a_user_stay(media: Path, output: Path, tmp_path: Path) -> None:
    (output / "annotations.json").write_text("mine")
    assert not is_merged(Plan(output))
    with pytest.raises(ValueError, match="annotations.json was not written by sa2va, or has changed since"):
        merge(Plan(output))
    assert (output / "annotations.json").read_text() == "mine"
    (output / "annotations.json").unlink()
    merge(Plan(output))
    assert len(COCO(output / "annotations.json").anns) == 8


def damage(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-9])


def cut(part: Path) -> None:
    pq.write_table(pq.read_table(part)[:-1], part)


def forget(part: Path) -> None:
    pq.write_table(pq.read_table(part).replace_schema_metadata(), part)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(damage, "cannot be read"), (cut, "is not the part of this run"), (forget, "is not the part of this run")],
)
def test_a_damaged_part_is_named(media: Path, tmp_path: Path, spoil: Any, message: str) -> None:
    texts = write_expressions(tmp_path / "texts.txt")
    expected = run(media, texts, tmp_path / "out")
    plan, job = start(media, texts, tmp_path / "out")
    (tmp_path / "out" / "annotations.json").unlink()
    spoil(plan.part(2))
    with pytest.raises(ValueError, match=f"000002.parquet: {message}.*delete it and repeat the command"):
        merge(plan)
    plan.part(2).unlink()
    finish(plan, job)
    assert (tmp_path / "out" / "annotations.json").read_bytes() == expected["annotations.json"]
