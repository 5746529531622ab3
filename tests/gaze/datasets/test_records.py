"""Check that every reader of data files takes regular files of a bounded size, and says so of any other at once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sa2va.files.read_limits import MAX_DATA_BYTES
from sa2va.gaze.datasets.coco_search18 import read_coco_search18
from sa2va.gaze.datasets.osie import read_osie
from sa2va.gaze.datasets.records import MAX_ENTRIES, to_numbers
from sa2va.gaze.datasets.refcoco_gaze import read_refcoco_gaze, read_timing
from sa2va.gaze.evaluation import golden
from sa2va.gaze.evaluation.predictions import read_predictions


def read_archive(path: Path) -> object:
    (path.parent / golden.WHOLE).write_text("[]")
    path.rename(path.parent / golden.BLUR)
    return golden.check_folder(path.parent)


READERS: dict[str, Callable[[Path], object]] = {
    "refcoco_gaze.json": read_refcoco_gaze,
    "coco_search18.json": read_coco_search18,
    "word-timing.json": read_timing,
    "predictions.json": read_predictions,
    "osie.json": read_osie,
    "fixations.mat": read_osie,
    "archive.npz": read_archive,
}


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_DATA_BYTES + 1)  # no block of it is on the disk


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_pipe, "not a regular file"),
        (make_endless, "not a regular file"),
        (Path.mkdir, "it is a folder"),
        (Path.touch, "the file is empty"),
        (make_large, "268435457 bytes are more than the 268435456 allowed"),
    ],
)
@pytest.mark.parametrize("name", READERS)
def test_only_regular_files_of_a_bounded_size_are_read(
    name: str, make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(ValueError, match=f"{tmp_path.name}/.*: {message}.*; expected") as caught:
        READERS[name](tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_scanpath_of_a_million_fixations_is_refused() -> None:
    assert len(to_numbers([1] * MAX_ENTRIES, "X")) == MAX_ENTRIES
    with pytest.raises(ValueError, match="X has 1000000 entries, expected at most 10000"):
        to_numbers([1] * 1_000_000, "X")
