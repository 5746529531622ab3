import json
import math
from pathlib import Path

import pytest

from sa2va.gaze.evaluation.predictions import packs_of, read_predictions

RECORD = {"REF_ID": 7, "REPEAT_ID": 1, "X": [[1, 2], [], [3]], "Y": [[4, 5], [], [6]]}


def write(folder: Path, records: object) -> Path:
    path = folder / "ours.json"
    path.write_text(json.dumps(records))
    return path


def test_packs() -> None:
    assert [pack.tolist() for pack in packs_of(RECORD)] == [[[1, 4], [2, 5]], [], [[3, 6]]]


def test_samples_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = read_predictions(write(tmp_path, [RECORD, RECORD | {"REPEAT_ID": 0, "X": [[9, 9], [], [9]]}]))
    assert list(found) == ["7"]
    assert [packs[2].tolist() for packs in found["7"]] == [[[9, 6]], [[3, 6]]]


def test_samples_need_no_numbers(tmp_path: Path) -> None:
    unnumbered = {name: value for name, value in RECORD.items() if name != "REPEAT_ID"}
    assert len(read_predictions(write(tmp_path, [unnumbered, unnumbered]))["7"]) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X": [[1], [], [3]]}, "pack 0: 1 X and 2 Y, expected equal counts"),
        ({"X": [1, 2, 3]}, "pack 0: X is 1, expected a list of finite numbers"),
        ({"X": [[1, 2]]}, "two lists of equal length"),
        ({"X": [[1, "2"], [], [3]]}, "pack 0: X is .* expected a list of finite numbers"),
        ({"Y": [[1, 2], [], [True]]}, "pack 2: Y is .* expected a list of finite numbers"),
        ({"X": [[[1, 2]], [], [3]]}, "pack 0: X is .* expected a list of finite numbers"),
        ({"X": [[1, math.nan], [], [3]]}, "pack 0: X is .* expected a list of finite numbers"),
        ({"X": [[1, 10**400], [], [3]]}, "pack 0: X is .* expected a list of finite numbers"),
        ({"X": [[1, None], [], [3]]}, "pack 0: X is .* expected a list of finite numbers"),
        ({"X": [[1, 1e7], [], [3]]}, "far outside"),
        ({"X": [], "Y": []}, "no packs"),
        ({"X": [[1] * 10_001], "Y": [[1] * 10_001]}, "pack 0: X has 10001 entries, expected at most 10000"),
        ({"X": [[1] * 5001] * 2, "Y": [[1] * 5001] * 2}, "X has 10002 entries, expected at most 10000"),
        ({"X": [[]] * 10_001, "Y": [[]] * 10_001}, "X has 10001 entries, expected at most 10000"),
        ({"REF_ID": "x"}, "REF_ID"),
        ({"REF_ID": True}, "REF_ID is True, expected a whole number"),
        ({"REPEAT_ID": "x"}, "REPEAT_ID is 'x', expected a whole number"),
        ({"REPEAT_ID": True}, "REPEAT_ID is True, expected a whole number"),
        ({}, "REF_ID 7 with REPEAT_ID 1 occurs twice"),
    ],
)
def test_bad_records(tmp_path: Path, change: dict, words: str) -> None:
    with pytest.raises(ValueError, match="ours.json: record 1: .*" + words) as caught:
        read_predictions(write(tmp_path, [RECORD, RECORD | change]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("records", [[], {}, [3], "text"])
def test_no_records(tmp_path: Path, records: object) -> None:
    with pytest.raises(ValueError, match="ours.json"):
        read_predictions(write(tmp_path, records))
