"""Check which COCO pictures count as seen, and the figures of the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from sa2va.data.plain_pickle import write_plain_pickle
from sa2va.evaluation.benchmark import Figure, Record, measure
from sa2va.evaluation.overlap import read_seen, unseen_figures
from sa2va.evaluation.report import Section


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


NAMED = {"images": [{"id": 1, "file_name": "train2017/000000000042.jpg"}, {"id": 7, "file_name": "my.jpg"}]}


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("ids.txt", "42\n\n 7 \n", {42, 7}),
        ("names.txt", "COCO_train2014_000000000042.jpg\n000000000007.jpg\n", {42, 7}),
        ("ids.json", [42, "7", "COCO_val2014_000000000009"], {42, 7, 9}),
        ("instances.json", NAMED | {"annotations": []}, {42, 7}),  # the id of a file name before the image's own
    ],
)
def test_ids_of_pictures(tmp_path: Path, name: str, content: Any, ids: set[int]) -> None:
    assert read_seen([write(tmp_path, name, content)]) == ids


def test_references_count_if_they_are_for_training(tmp_path: Path) -> None:
    refs = [{"image_id": number, "split": split, "file_name": f"COCO_train2014_{number:012}_3.jpg"}
            for number, split in ((4, "train"), (5, "val"), (6, "train"), (4, "train"))]  # fmt: skip
    write_plain_pickle(tmp_path / "refcoco" / "refs(unc).p", refs)
    (tmp_path / "grefcoco").mkdir()
    write(tmp_path / "grefcoco", "grefs(unc).json", [{"image_id": 8, "split": "train"}])
    assert read_seen([tmp_path / "refcoco" / "refs(unc).p"]) == {4, 6}
    assert read_seen([tmp_path]) == {4, 6, 8}
    write(tmp_path / "grefcoco", "grefs(unc).json", [{"image_id": 8, "split": "val"}])
    assert read_seen([tmp_path]) == {4, 6}  # a dataset of the folder may have no training split
    assert read_seen([]) == frozenset()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "cat.jpg\n", r"a\.txt, entry 1: 'cat\.jpg' is no COCO picture; expected an id or a file name"),
        ("a.txt", "\n", r"a\.txt: names no picture"),
        ("a.json", {"annotations": []}, r"a\.json: holds no pictures"),
        ("a.json", [{"image_id": 1, "split": "val"}], r"a\.json: names no picture"),
        ("a.json", [True], r"entry 1: 'True' is no COCO picture"),
        ("a.json", "{", r"a\.json is not valid JSON"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_seen([write(tmp_path, name, content)])


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing: is missing"):
        read_seen([tmp_path / "nothing"])
    with pytest.raises(ValueError, match=r"holds no references"):
        read_seen([tmp_path])


class Mean:
    """Stand in for a benchmark: the mean score."""

    name, title, protocol, scored_elsewhere = "mean", "Mean", "", False

    def summarize(self, records: list[Record]) -> list[Figure]:
        return [measure("score", [one["score"] for one in records], groups=[one["coco"] for one in records])]


RECORDS = [{"score": score, "coco": picture} for score, picture in ((0.2, 1), (0.4, 1), (0.9, 2), (0.6, 3))]


def test_figures_of_pictures_that_were_not_seen() -> None:
    share, score = unseen_figures(Mean(), RECORDS, frozenset({1, 99}))  # ty: ignore
    assert (share.name, share.value, share.low, share.num_items) == ("share of unseen pictures", 2 / 3, None, 3)
    assert (score.name, score.value, score.num_items) == ("score, unseen pictures", 0.75, 2)


def test_nothing_is_left_if_all_were_seen() -> None:
    (share,) = unseen_figures(Mean(), RECORDS, frozenset({1, 2, 3}))  # ty: ignore
    assert (share.value, share.note) == (0.0, "none is left: all 3 were in the training data")


def test_other_pictures_have_no_such_figures() -> None:
    assert unseen_figures(Mean(), [{"score": 1.0}], frozenset({1})) == []  # ty: ignore
    section = Section.of(Mean(), RECORDS, frozenset({1}))  # ty: ignore
    assert [figure.name for figure in section.figures] == [
        "score",
        "share of unseen pictures",
        "score, unseen pictures",
    ]
    assert len(Section.of(Mean(), RECORDS).figures) == 1  # ty: ignore
