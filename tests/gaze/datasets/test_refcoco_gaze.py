import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gaze.support.recorded_gaze import REFCOCO_GAZE, read_json, recorded

from sa2va.files.read_limits import MAX_DATA_BYTES
from sa2va.gaze.datasets.refcoco_gaze import read_refcoco_gaze, read_timing
from sa2va.gaze.metrics.target import inside_box, last_hit
from sa2va.gaze.trial import group_cases


def record(**changes: Any) -> dict[str, Any]:
    """A trial in the layout of the raw files: "red car", three fixations, the sound begins at 200 ms."""
    fields = {
        "REF_ID": 7, "REF_GAZE_ID": "p1-1", "SUBJECT_ID": "p1", "IMAGEFILE": "7.jpg", "REF_SENTENCE": "red car",
        "REF_WORDS": ["red", "car"], "BBOX": [1000, 200, 300, 100], "SOUND_ON": 200, "SOUND_OVER": 1200,
        "TARGET_SPOKEN_PERIOD": [600, 1100], "BUTTON_PRESS_TIME": 1500, "NATIVE_SPEAKER": True,
        "FIX_X": [840.0, 500.0, 1100.0], "FIX_Y": [525.0, 300.0, 250.0], "FIX_START": [210, 300, 1300],
        "FIX_DURATION": [80, 900, 0], "FIX_WORDINDEX": [-99, 0, 99], "FIX_IN_BBOX": [False, False, True],
    }  # fmt: skip
    return fields | changes


TIMING = {"ref_id": 7, "word_onset": [50, 400], "word_end": [350, 900], "sentence_duration": 1000}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_raw_layout(tmp_path: Path) -> None:
    (trial,) = read_refcoco_gaze(write(tmp_path / "refcocogaze_val_correct.json", [record()]))
    path = trial.scanpath
    assert (path.width, path.height, path.image, path.words) == (1680, 1050, "7.jpg", ("red", "car"))
    assert path.sizes == [1, 1, 0, 1]
    assert path.starts.tolist() == [10, 100, 1100] and path.durations.tolist() == [80, 900, 0]
    assert trial.target == (1000, 200, 1300, 300)
    assert trial.noun == (400, 900)  # the sound's beginning is taken off once
    assert (trial.case, trial.subject, trial.expression, trial.ended) == ("7", "p1", "red car", 1300)
    assert trial.native_speaker is True and trial.timing is None


def test_small_layout_is_known_by_its_name(tmp_path: Path) -> None:
    small = record(BBOX=[305, 61, 91, 30], FIX_X=[256, 152, 335], FIX_Y=[160, 91, 76])
    (trial,) = read_refcoco_gaze(write(tmp_path / "refcocogaze_test_512X320.json", [small]))
    assert (trial.scanpath.width, trial.scanpath.height) == (512, 320)
    (given,) = read_refcoco_gaze(write(tmp_path / "other.json", [small]), size=(512, 320))
    assert given == trial


def test_the_clock_of_the_words(tmp_path: Path) -> None:
    """A fixation in the pause after a word without one: recorded numbers cannot say which word, the clock can."""
    trial = record(FIX_START=[210, 570, 1300], FIX_WORDINDEX=[-99, -99, 99])
    path = write(tmp_path / "val.json", [trial])
    clock = write(tmp_path / "word-timing.json", [TIMING])
    (without,) = read_refcoco_gaze(path)
    (with_clock,) = read_refcoco_gaze(path, clock)
    assert without.scanpath.sizes == [2, 0, 0, 1]
    assert with_clock.scanpath.sizes == [1, 1, 0, 1]
    assert with_clock.timing == read_timing(clock)[7]


def test_cases_are_what_people_share(tmp_path: Path) -> None:
    records = [record(), record(REF_ID=8), record(SUBJECT_ID="p2")]
    cases = group_cases(read_refcoco_gaze(write(tmp_path / "val.json", records)))
    assert {name: [trial.subject for trial in trials] for name, trials in cases.items()} == {
        "7": ["p1", "p2"],
        "8": ["p1"],
    }


def test_an_address_that_is_null_is_no_photo(tmp_path: Path) -> None:
    records = [record(IMG_URL=None), record(REF_ID=8, IMAGEFILE="8.jpg", IMG_URL=None), record(REF_ID=9, IMG_URL="u")]
    trials = read_refcoco_gaze(write(tmp_path / "val.json", records))
    assert [trial.picture for trial in trials] == ["7.jpg", "8.jpg", "u"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "at least one record"),
        ({"a": 1}, "expected a list"),
        ([5], "record 0: expected fields, got int"),
        ([record(), {"REF_ID": 1}], "record 1: SUBJECT_ID is missing"),
        ([record(REF_WORDS="red car")], "record 0: REF_WORDS is 'red car'"),
        ([record(FIX_X=[1.0])], r"FIX_ lists of \[1, 3, 3, 3, 3\] entries"),
        ([record(FIX_X=[1.0, "a", 2.0])], "FIX_X is .* expected a list of finite numbers"),
        ([record(FIX_WORDINDEX=[-99, 5, 99])], "word index 5"),
        ([record(FIX_WORDINDEX=[99, 0, 99])], "expected a non-decreasing order"),
        ([record(FIX_START=[300, 210, 1300])], "expected time order"),
        ([record(FIX_DURATION=[80, -1, 0])], "duration is -1.0 ms"),
        ([record(BBOX=[1, 2, 3])], "expected left, top, width and height"),
        ([record(BBOX=[1500, 2, 300, 3])], "exceeds 1680 x 1050 px: give the size"),
        ([record(TARGET_SPOKEN_PERIOD=[1])], "TARGET_SPOKEN_PERIOD has 1 numbers"),
        ([record(TARGET_SPOKEN_PERIOD=[1, math.nan])], "TARGET_SPOKEN_PERIOD is .* expected a list of finite numbers"),
        ([record(FIX_X=None)], "record 0: FIX_X is None, expected a list"),
        ([record(FIX_X=[10**400, 2, 3])], "record 0: FIX_X is .* expected a list of finite numbers"),
        ([record(FIX_X=[True, 2, 3])], "record 0: FIX_X is .* expected a list of finite numbers"),
        ([record(FIX_X=[1e9, 2, 3])], r"record 0: a fixation at 1e\+09, 525 px is far outside 1680 x 1050 px"),
        ([record(FIX_WORDINDEX=[math.inf, 0, 99])], "record 0: FIX_WORDINDEX is .* expected a list of finite numbers"),
        ([record(FIX_WORDINDEX=[math.nan, 0, 99])], "record 0: FIX_WORDINDEX is .* expected a list of finite numbers"),
        ([record(FIX_WORDINDEX=[-99, 0.5, 99])], "record 0: FIX_WORDINDEX is .* expected whole numbers"),
        ([record(SOUND_ON=math.nan)], "record 0: SOUND_ON is nan, expected a finite number"),
        ([record(SOUND_ON=True)], "record 0: SOUND_ON is True, expected a number"),
        ([record(BUTTON_PRESS_TIME=10**400)], "record 0: BUTTON_PRESS_TIME is 1000.*, expected a finite number"),
        ([record(REF_ID=True)], "record 0: REF_ID is True, expected a whole number"),
        ([record(IMG_URL=5)], "record 0: IMG_URL is 5, expected text"),
        ([record(BBOX=[math.nan] * 4)], "record 0: BBOX is .* expected a list of finite numbers"),
        ([record(BBOX=[-math.inf, 0, 5, 5])], "record 0: BBOX is .* expected a list of finite numbers"),
        ([record(BBOX=[10, 10, 0, 5])], "record 0: BBOX is .* the last two above 0"),
        ([record(BBOX=[-90, 10, 50, 50])], "record 0: BBOX .* lies outside 1680 x 1050 px"),
        ([record(BBOX=[10, 1052, 5, 5])], "record 0: BBOX .* lies outside 1680 x 1050 px"),
        ([record(), record(BBOX=[1, 2, 30, 40])], "record 1: BBOX of REF_ID 7 is .* in record 0; expected one box"),
    ],
)
def test_bad_files(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path / "val.json", content)
    with pytest.raises(ValueError, match=message) as caught:
        read_refcoco_gaze(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere.json: there is no such file"):
        read_refcoco_gaze(tmp_path / "nowhere.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"deep.json: .*expected a list of records"):
        read_refcoco_gaze(tmp_path / "deep.json")
    (tmp_path / "half.json").write_text("[{")
    with pytest.raises(ValueError, match="half.json: no JSON"):
        read_refcoco_gaze(tmp_path / "half.json")


def test_what_has_no_end_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe, a device, a large file, and a scanpath of too many fixations."""
    os.mkfifo(tmp_path / "pipe.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(MAX_DATA_BYTES + 1)
    many = [1.0] * 10**5
    columns = {f"FIX_{name}": many for name in ("X", "Y", "START", "DURATION")} | {"FIX_WORDINDEX": [99] * 10**5}
    write(tmp_path / "many.json", [record(**columns)])
    write(tmp_path / "words.json", [record(REF_WORDS=["a"] * 10_001)])
    for path, message in {
        tmp_path / "pipe.json": "not a regular file",
        Path("/dev/zero"): "not a regular file",
        tmp_path / "large.json": "268435457 bytes are more than the 268435456 allowed",
        tmp_path / "many.json": "record 0: FIX_X has 100000 entries, expected at most 10000",
        tmp_path / "words.json": "record 0: REF_WORDS has 10001 entries, expected at most 10000",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            read_refcoco_gaze(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("timings", "message"),
    [
        ([TIMING | {"ref_id": 1}], "val.json: record 0: REF_ID 7 is not in words.json"),
        ([TIMING | {"word_end": [350]}], "words.json: record 0: timing: 2 onsets and 1 ends"),
        (
            [TIMING | {"word_onset": [50], "word_end": [350]}],
            "val.json: record 0: REF_ID 7 has 2 words, but words.json",
        ),
        ([TIMING | {"word_onset": [], "word_end": []}], "REF_ID 7 has 2 words, but words.json times 0"),
        ([TIMING, TIMING], "words.json: record 1: ref_id 7 occurs twice"),
        ([TIMING | {"ref_id": True}], "words.json: record 0: ref_id is True, expected a whole number"),
        ([TIMING | {"sentence_duration": math.inf}], "record 0: sentence_duration is inf, expected a finite number"),
        ([TIMING | {"sentence_duration": 10**400}], "record 0: sentence_duration is 1000.*, expected a finite number"),
        ([TIMING | {"word_end": [350, math.nan]}], "record 0: word_end is .*, expected a list of finite numbers"),
        ([TIMING | {"word_onset": [-50, 400]}], "record 0: word_onset begins with -50 ms, expected at least 0"),
        ([TIMING | {"word_onset": [400, 50]}], "record 0: timing: 350.0 ms follows 400.0 ms"),
    ],
)
def test_bad_timing_files(tmp_path: Path, timings: Any, message: str) -> None:
    path = write(tmp_path / "val.json", [record()])
    with pytest.raises(ValueError, match=message) as caught:
        read_refcoco_gaze(path, write(tmp_path / "words.json", timings))
    assert "\n" not in str(caught.value)


@pytest.mark.parity
def test_recorded_trials() -> None:
    """Who is on target is recorded as well, and recomputes; packs by clock and by recorded number nearly agree."""
    path = recorded(REFCOCO_GAZE / "refcocogaze_val_part.json")
    trials = read_refcoco_gaze(path, REFCOCO_GAZE / "word-timing.json")
    assert len(trials) == 574 and len(group_cases(trials)) == 60
    for trial, raw in zip(trials, read_json(path), strict=True):
        assert trial.target is not None
        hits = inside_box(trial.scanpath.points, trial.target)
        assert hits.tolist() == raw["FIX_IN_BBOX"] and last_hit(hits)
        assert trial.noun is not None and trial.timing is not None
        assert any(abs(onset - trial.noun[0]) < 1e-9 for onset in trial.timing.onsets)  # the noun is one of the words
    by_number = read_refcoco_gaze(path)
    moved = [
        np.abs(np.subtract(one.scanpath.sizes, other.scanpath.sizes)).sum() // 2
        for one, other in zip(trials, by_number, strict=True)
    ]
    assert sum(moved) <= 10
