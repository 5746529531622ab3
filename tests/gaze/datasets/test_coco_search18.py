import json
from pathlib import Path
from typing import Any

import pytest

from sa2va.gaze.datasets.coco_search18 import read_coco_search18


def record(**changes: Any) -> dict[str, Any]:
    fields = {
        "name": "000000400966.jpg", "subject": 2, "task": "stop sign", "condition": "present",
        "bbox": [67, 114, 78, 42], "X": [245.5, 120.0], "Y": [156.9, 130.5], "T": [73, 252], "length": 2,
        "correct": 1, "RT": 1159, "split": "train",
    }  # fmt: skip
    return fields | changes


def read(folder: Path, records: list, **options: Any) -> list:
    path = folder / "fixations.json"
    path.write_text(json.dumps(records))
    return read_coco_search18(path, **options)


def test_a_search(tmp_path: Path) -> None:
    (trial,) = read(tmp_path, [record()])
    assert trial.scanpath.words == ("stop", "sign")
    assert trial.scanpath.sizes == [0, 0, 0, 2]  # the category was named before the picture appeared
    assert trial.scanpath.starts.tolist() == [0, 73]
    assert trial.target == (67, 114, 145, 156)
    assert (trial.case, trial.subject, trial.correct) == ("present/stop sign/000000400966.jpg", "2", True)
    assert (trial.scanpath.width, trial.scanpath.height) == (512, 320)


def test_the_size_is_that_of_the_whole_file(tmp_path: Path) -> None:
    large = record(X=[840.0, 1500.0], Y=[525.0, 400.0], correct=0)
    trials = read(tmp_path, [record(), large])
    assert {trial.scanpath.width for trial in trials} == {1680}
    assert [trial.correct for trial in trials] == [True, False]
    assert read(tmp_path, [record()], size=(1680, 1050))[0].scanpath.width == 1680


@pytest.mark.parametrize("changes", [{"condition": "absent"}, {"bbox": None}])
def test_without_a_target(tmp_path: Path, changes: dict) -> None:
    assert read(tmp_path, [record(**changes)])[0].target is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": "maybe"}, "record 0: condition is 'maybe', expected present or absent"),
        ({"T": [73]}, "2 x, 2 y and 1 durations"),
        ({"X": ["a", 1]}, "X is .* expected a list of finite numbers"),
        ({"Y": None}, "Y is None"),
        ({"bbox": [500, 300, 90, 90]}, "passes the edge of 512 x 320 px"),
        ({"T": [73, -5]}, "duration is -5.0 ms"),
        ({"bbox": 5}, "record 0: bbox is 5, expected a list of finite numbers"),
        ({"bbox": [67, 114, 0, 42]}, "record 0: bbox is .* the last two above 0"),
        ({"X": [1e9, 2]}, "record 0: a fixation at .* lies far off 1680 x 1050 px"),
        ({"X": [10**400, 2]}, "record 0: X is .* expected a list of finite numbers"),
        ({"subject": True}, "record 0: subject is True, expected a whole number"),
    ],
)
def test_bad_records(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, [record(**changes)])
