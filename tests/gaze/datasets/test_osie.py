import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gaze.support.recorded_gaze import OSIE, recorded
from scipy.io import savemat

from sa2va.gaze.datasets.osie import read_osie

SCANPATHS = [
    {"subject": 0, "x": [395.5, 390.0], "y": [265.5, 326.0], "duration": [246, 136]},
    {"subject": 1, "x": [392.5], "y": [344.0], "duration": [200]},
]


def one_picture(**changes: Any) -> dict[str, Any]:
    """A file in the JSON layout, of one picture of which something is otherwise."""
    return {"images": {"a.jpg": {"width": 800, "height": 600, "scanpaths": SCANPATHS} | changes}}


def one_scanpath(**changes: Any) -> dict[str, Any]:
    """The same, with something otherwise in the second scanpath."""
    return one_picture(scanpaths=[SCANPATHS[0], SCANPATHS[1] | changes])


def cell(values: list[Any]) -> np.ndarray:
    """A MATLAB cell array."""
    array = np.empty((len(values), 1), object)
    array[:, 0] = values
    return array


def write_mat(path: Path) -> Path:
    """The layout as published: a cell per picture, in it a cell per person."""
    people = [
        {"fix_x": np.array(one["x"]), "fix_y": np.array(one["y"]), "fix_duration": np.array(one["duration"])}
        for one in SCANPATHS
    ]
    savemat(path, {"fixations": cell([{"img": "1001.jpg", "subjects": cell(people)}] * 2)})
    return path


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "fixations.json"
    path.write_text(json.dumps({"images": {"1001.jpg": {"width": 800, "height": 600, "scanpaths": SCANPATHS}}}))
    first, second = read_osie(path)
    assert first.scanpath.points.tolist() == [[395.5, 265.5], [390, 326]]
    assert first.scanpath.starts.tolist() == [0, 246]
    assert first.scanpath.sizes == [0, 2] and first.scanpath.words == ()
    assert (first.case, first.subject, second.subject) == ("1001.jpg", "0", "1")
    assert first.target is None and first.expression == ""


def test_matlab_file_reads_alike(tmp_path: Path) -> None:
    path = tmp_path / "fixations.json"
    path.write_text(json.dumps({"images": {"1001.jpg": {"width": 800, "height": 600, "scanpaths": SCANPATHS}}}))
    trials = read_osie(write_mat(tmp_path / "fixations.mat"))
    assert len(trials) == 4 and trials[:2] == read_osie(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], 'expected {"images"'),
        ({"images": [1]}, 'expected {"images"'),
        ({"images": {}}, "no scanpaths in it, expected at least one"),
        ({"images": {"a.jpg": 5}}, "picture a.jpg: expected fields, got int"),
        (one_picture(width="800"), "picture a.jpg: width is '800', expected a whole number"),
        (one_picture(width=None), "picture a.jpg: width is None, expected a whole number"),
        (one_picture(width=800.5), "picture a.jpg: width is 800.5, expected a whole number"),
        (one_picture(width=math.nan), "picture a.jpg: width is nan, expected a whole number"),
        (one_picture(width=0), "scanpath 0: scanpath: stimulus of 0 x 600 px"),
        (one_picture(width=10**400), "scanpath 0: width is 1000.*, expected a finite number"),
        (one_picture(scanpaths=5), "picture a.jpg: scanpaths is 5, expected a list"),
        (one_picture(scanpaths=None), "picture a.jpg: scanpaths is None, expected a list"),
        (one_picture(scanpaths={"a": 1}), "picture a.jpg: scanpaths is {'a': 1}, expected a list"),
        (one_picture(scanpaths=[]), "no scanpaths in it"),
        (one_picture(scanpaths=[1]), "scanpath 0: expected fields, got int"),
        (one_scanpath(subject=None), "scanpath 1: subject is None, expected a whole number or text"),
        (one_picture(scanpaths=[{"subject": 1, "y": [], "duration": []}]), "scanpath 0: x is missing"),
        (one_picture(scanpaths=[{"x": [], "y": [], "duration": []}]), "scanpath 0: subject is missing"),
        (one_scanpath(x=[1, 2]), "scanpath 1: 2 x, 1 y"),
        (one_scanpath(x=None), "scanpath 1: x is None, expected a list"),
        (one_scanpath(x=5), "scanpath 1: x is 5, expected a list"),
        (one_scanpath(x=["5"]), "scanpath 1: x is .* expected a list of finite numbers"),
        (one_scanpath(x=[1e9]), "scanpath 1: a fixation at .* is far outside 800 x 600 px"),
        (one_scanpath(duration=[-5]), "scanpath 1: fixation: duration is -5.0 ms"),
    ],
)
def test_bad_json(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "fixations.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"fixations.json: (picture a.jpg, )?{message}") as caught:
        read_osie(path)
    assert "\n" not in str(caught.value)


def test_bad_matlab_files(tmp_path: Path) -> None:
    path = tmp_path / "fixations.mat"
    for content in (None, b"not a matlab file at all"):
        if content:
            path.write_bytes(content)
        with pytest.raises(ValueError, match="fixations.mat: .*; expected the MATLAB file fixations.mat") as caught:
            read_osie(path)
        assert "file name" not in str(caught.value)
    savemat(path, {"other": 1})
    with pytest.raises(ValueError, match="expected the MATLAB file fixations.mat"):
        read_osie(path)


def test_a_matlab_file_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "small.mat", {"other": 1})
    head = (tmp_path / "small.mat").read_bytes()[:128]
    packed = zlib.compress(bytes(2**24), 9)
    piece = (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed
    path = tmp_path / "fixations.mat"
    path.write_bytes(head + piece * 17)  # 17 x 16 MiB in 280 kB
    with pytest.raises(ValueError, match=r"fixations.mat: .*decompress to 269484032 bytes or more.*; expected"):
        read_osie(path)


@pytest.mark.parity
def test_recorded_pictures() -> None:
    trials = read_osie(recorded(OSIE / "fixations.json"))
    assert len(trials) == 720 and len({trial.case for trial in trials}) == 48
    assert np.mean([len(trial.scanpath.points) for trial in trials]) == pytest.approx(9.37, abs=0.01)
    assert max(trial.scanpath.starts[-1] for trial in trials) < 3000
