"""Check the check itself on a small folder made here; the recorded folders are compared where they are at hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gaze.support.recorded_gaze import METRICS, recorded

from sa2va.gaze.evaluation.golden import check_folder

# One person, one sample, two packs of one fixation each; two clusters. All by hand.
CASE = {
    "REF_ID": 1,
    "human": [{"SUBJECT": "a", "X": [[100], [400]], "Y": [[100], [200]]}],
    "pred": [{"X": [[100], []], "Y": [[100], []]}],
    "strings": {"a": [0, 1]},
    "strings_online": {"a": [[0], [1]]},
    "cluster_centers": [[100, 100], [400, 200]],
}
KNOWN: dict[str, Any] = {
    "REF_ID": 1,
    "pred": [{"string": [0], "string_online": [[0], [0]], "SS": 0.5, "ED": 1, "SS_pack": 0.5, "ED_pack": 0.5}],
    "CC_word": {"0": [1.0], "1": [0.0]},
    "NSS_word": {"1": [[0.0]]},
    "CC": 0.5,
    "NSS": 12.5,
}


def write(folder: Path, known: dict[str, Any], case: dict[str, Any] = CASE) -> Path:
    (folder / "inputs.json").write_text(json.dumps({"cases": [case]}))
    (folder / "outputs.json").write_text(json.dumps({"cases": [known]}))
    return folder


def test_differences_by_hand(tmp_path: Path) -> None:
    rows = {row.name: row for row in check_folder(write(tmp_path, KNOWN))}
    assert rows["NSS"].largest > 0.01  # a guess
    assert not rows["NSS"].ok and rows["NSS"].where == "REF_ID 1"
    assert all(row.ok for name, row in rows.items() if name != "NSS")
    assert rows["symbols"].num_values == 3 and rows["CC per word"].num_values == 2


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        ({"SS": 0.5 + 1e-5}, "SS"),
        ({"ED": 2}, "FED"),
        ({"SS_pack": None}, "SS_pack"),
        ({"string": [0, 0]}, "symbols"),
        ({"string_online": [[0], [1]]}, "pack symbols"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, change: dict[str, Any], metric: str) -> None:
    known = KNOWN | {"pred": [KNOWN["pred"][0] | change]}
    rows = {row.name: row for row in check_folder(write(tmp_path, known))}
    assert not rows[metric].ok and rows[metric].where == "REF_ID 1"


def test_undefined_is_undefined(tmp_path: Path) -> None:
    nobody = CASE | {"human": [{"SUBJECT": "a", "X": [[], []], "Y": [[], []]}], "strings": {"a": []}}
    nobody |= {"strings_online": {"a": [[1], [1]]}}  # the cluster of the middle stands in
    known = KNOWN | {"NSS": math.nan, "NSS_word": {"0": [None], "1": [[None]]}}
    known |= {"pred": [KNOWN["pred"][0] | {"SS": 0, "SS_pack": 0, "ED_pack": 1}], "CC_word": {"1": [1.0]}}
    rows = {row.name: row for row in check_folder(write(tmp_path, known, nobody))}
    assert rows["NSS"].ok and rows["NSS per word"].ok and rows["SS_pack"].ok and rows["CC per word"].ok


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("inputs.json", "{"),
        ("inputs.json", '{"cases": 3}'),
        ("inputs.json", "[]"),
        ("outputs.json", '{"cases": []}'),
        ("outputs.json", '{"cases": [{"REF_ID": 1}]}'),
        ("string_primitives.json", '[{"a": [1]}]'),
        ("string_primitives.json", "5"),
        ("string_primitives.json", '{"a": [1]}'),
        ("whole_scanpath.json", "5"),
        ("whole_scanpath.json", "[5]"),
        ("outputs.json", json.dumps({"cases": [KNOWN | {"CC": 10**400}]})),
        ("inputs.json", json.dumps({"cases": [CASE | {"cluster_centers": [[10**400, 1], [2, 3]]}]})),
        ("inputs.json", "[" * 100_000),
        ("blur_maps.npz", "no archive"),
    ],
)
def test_unusable_folders_are_refused_in_one_line(tmp_path: Path, name: str, text: str) -> None:
    (write(tmp_path, KNOWN) / name).write_text(text)
    with pytest.raises(ValueError) as caught:
        check_folder(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(write(tmp_path, KNOWN) / "blur_maps.npz", *[np.zeros(2**24, np.uint8)] * 17)
    assert (tmp_path / "blur_maps.npz").stat().st_size < 400_000
    with pytest.raises(
        ValueError, match=r"blur_maps.npz: .*decompress to .* bytes or more.*; expected a NumPy archive, .npz"
    ):
        check_folder(tmp_path)


@pytest.mark.parametrize("damage", [10, 100, 200])
def test_a_damaged_archive_is_refused_in_one_line(tmp_path: Path, damage: int) -> None:
    path = write(tmp_path, KNOWN) / "blur_maps.npz"
    np.savez_compressed(path, action=np.ones((2, 30, 40)), blurred=np.ones((2, 30, 40)))
    data = path.read_bytes()
    for content in (data[:-damage], data[:damage] + b"\xff" * 40 + data[damage + 40 :]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="blur_maps.npz") as caught:
            check_folder(tmp_path)
        assert "\n" not in str(caught.value)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a folder"):
        check_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="inputs.json"):
        check_folder(tmp_path)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("folder", [METRICS, METRICS / "extra"])
def test_recorded_folders(folder: Path) -> None:
    rows = check_folder(recorded(folder))
    assert len(rows) > 10
    assert [row.name for row in rows if not row.ok] == []
