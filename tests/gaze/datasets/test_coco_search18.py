import json
from pathlib import Path
from typing import Any

import numpy as np
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


def test_durations_of_fixations_that_were_cut_off(tmp_path: Path) -> None:
    """As published: a scanpath ends at the first fixation on the target, its durations go on."""
    cut = record(X=[256.0, 180.0, 100.0], Y=[160.0, 150.0, 130.0], T=[200, 150, 90, 80, 70, 60, 50], length=3)
    with pytest.warns(UserWarning, match="fixations.json: 1 of 2 scanpaths have more durations than fixations"):
        trials = read(tmp_path, [record(), cut])
    assert trials[1].scanpath.durations.tolist() == [200, 150, 90]
    assert trials[1].scanpath.starts.tolist() == [0, 200, 350]


@pytest.mark.parametrize(("fixated", "drawn"), [(512, 1680), (1680, 512)])
def test_boxes_in_px_of_the_other_size(tmp_path: Path, fixated: int, drawn: int) -> None:
    """People look at their target only once the boxes have the size of the fixations."""
    places, box = np.array([[256.0, 160.0], [120.0, 130.0]]) * fixated / 512, np.array([67.0, 114.0, 78.0, 42.0])
    shown = record(X=places[:, 0].tolist(), Y=places[:, 1].tolist(), bbox=(box * drawn / 512).tolist())
    wrong = shown | {"correct": 0, "X": [places[0, 0]] * 2, "Y": [places[0, 1]] * 2}
    with pytest.warns(UserWarning, match=f"converted boxes from {drawn} x .* px to the {fixated} x "):
        trials = read(tmp_path, [shown, shown, wrong])
    for trial in trials:
        assert trial.scanpath.width == fixated
        assert trial.target == pytest.approx(np.array([67, 114, 145, 156]) * fixated / 512)
    size = (512, 320) if drawn == 512 else (1680, 1050)
    shown["X"], shown["Y"] = (np.array([shown["X"], shown["Y"]]) * drawn / fixated).tolist()
    assert read(tmp_path, [shown], size=size)[0].target == pytest.approx(np.array([67, 114, 145, 156]) * drawn / 512)


def test_who_looks_beside_the_screen_does_not_change_its_size(tmp_path: Path) -> None:
    beside = record(X=[256.0, 530.0], Y=[160.0, 100.0])
    trials = read(tmp_path, [record()] * 12 + [beside])
    assert {trial.scanpath.width for trial in trials} == {512}


@pytest.mark.parametrize("changes", [{"condition": "absent"}, {"bbox": None}])
def test_without_a_target(tmp_path: Path, changes: dict) -> None:
    assert read(tmp_path, [record(**changes)])[0].target is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": "maybe"}, "record 0: condition is 'maybe', expected present or absent"),
        ({"T": [73]}, "record 0: 2 x, 2 y and 1 durations"),
        ({"Y": [156.9], "T": [1, 2, 3]}, "record 0: 2 x, 1 y and 3 durations"),
        ({"X": ["a", 1]}, "X is .* expected a list of finite numbers"),
        ({"Y": None}, "Y is None"),
        ({"bbox": [500, 300, 90, 90]}, "exceeds 512 x 320 px"),
        ({"T": [73, -5]}, "duration is -5.0 ms"),
        ({"bbox": [10**400, 114, 78, 42]}, "record 0: bbox is .* expected a list of finite numbers"),
        ({"bbox": 5}, "record 0: bbox is 5, expected a list of finite numbers"),
        ({"bbox": [67, 114, 0, 42]}, "record 0: bbox is .* the last two above 0"),
        ({"X": [1e9, 2]}, "record 0: a fixation at .* is far outside 1680 x 1050 px"),
        ({"X": [10**400, 2]}, "record 0: X is .* expected a list of finite numbers"),
        ({"subject": True}, "record 0: subject is True, expected a whole number"),
    ],
)
def test_bad_records(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, [record(**changes)])
