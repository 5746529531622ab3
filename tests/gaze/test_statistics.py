import math
from dataclasses import replace

import numpy as np
import pytest
from gaze.support.recorded_gaze import OSIE, REFCOCO_GAZE, recorded

from sa2va.data.check import Expected, compare
from sa2va.gaze.datasets.osie import read_osie
from sa2va.gaze.datasets.refcoco_gaze import read_refcoco_gaze
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.statistics import (
    EXPECTED,
    MEASURED_ON_HALF,
    ORIGINS,
    describe,
    held_out_half,
    in_reference_half,
)
from sa2va.gaze.trial import Trial


def two_trials() -> list[Trial]:
    """One word "car", canvas 512 x 320, target at the right; the second person never looks while it is spoken."""
    box = (400.0, 0.0, 512.0, 320.0)
    first = [Fixation(256, 160, -100, 180), Fixation(266, 160, 100, 300), Fixation(450, 160, 450, 200)]
    second = [Fixation(256, 160, -50, 900), Fixation(450, 160, 900, 100)]
    paths = [
        Scanpath.from_packs(fixations, indices, ["car"], width=512, height=320)
        for fixations, indices in ((first, [0, 1, 2]), (second, [0, 2]))
    ]
    return [
        Trial(scanpath=path, case="c", subject=name, target=box, noun=(50, 400))
        for path, name in zip(paths, "ab", strict=True)
    ]


def test_by_hand() -> None:
    figures = describe(two_trials())
    expected = {
        "scanpaths": 2, "cases": 1, "people": 2, "people per case": 2, "fixations per scanpath": 2.5,
        "share before the words": 0.4, "share during the words": 0.2, "share after the words": 0.4,
        "empty packs before": 0, "empty packs of words": 0.5, "single fixations per word": 0.5,
        "two fixations per word": 0,
        "empty packs after": 0, "mean pack after": 1,
        "duration median, ms": 200, "duration mean, ms": 336, "gap median, ms": 50,
        "duration, shortest 5 %, ms": 116, "duration, longest 5 %, ms": 780,
        "saccade median, px": 184, "saccade mean, px": (10 + 184 + 194) / 3, "short saccades": 1 / 3,
        "saccade, shortest 25 %, px": 97, "saccade, longest 25 %, px": 189, "saccade, longest 5 %, px": 193,
        "on target before": 0, "on target, last word": 0, "on target after": 1, "last fixation on target": 1,
        "latency median, ms": (400 + 850) / 2, "target share of the canvas": 112 / 512,
    }  # fmt: skip
    assert figures == pytest.approx(expected)


def test_free_viewing_has_fewer_figures() -> None:
    path = Scanpath.from_packs([Fixation(1, 1, 0, 100), Fixation(9, 1, 100, 50)], [1, 1], [], width=512, height=320)
    figures = describe([Trial(scanpath=path, case="a", subject="p")])
    assert figures["fixations per scanpath"] == 2 and figures["saccade median, px"] == 8
    assert not any("target" in name or "pack" in name or "gap" in name for name in figures)


def test_people_who_looked_nowhere() -> None:
    path = Scanpath.from_packs([], [], ["dog"], width=512, height=320)
    figures = describe([Trial(scanpath=path, case="a", subject="p", target=(0, 0, 1, 1))])
    assert figures["fixations per scanpath"] == 0 and figures["last fixation on target"] == 0
    assert all(np.isfinite(value) for value in figures.values())


def test_lengths_are_in_px_of_the_canvas() -> None:
    path = Scanpath.from_packs([Fixation(0, 0, 0, 1), Fixation(168, 0, 9, 1)], [1, 1], [], width=1680, height=1050)
    assert describe([Trial(scanpath=path, case="a", subject="p")])["saccade mean, px"] == pytest.approx(51.2)


def test_a_square_picture_is_fitted_into_the_canvas() -> None:
    """256 x 256 px become 320 x 320 of 512 x 320."""
    path = Scanpath.from_packs([Fixation(0, 0, 0, 1), Fixation(64, 0, 9, 1)], [1, 1], [], width=256, height=256)
    figures = describe([Trial(scanpath=path, case="a", subject="p", target=(0, 0, 128, 256))])
    assert figures["saccade mean, px"] == pytest.approx(80)
    assert figures["target share of the canvas"] == pytest.approx(160 * 320 / (512 * 320))


def test_comparison() -> None:
    rows = compare({"a": 1.05, "b": 3.0}, {"a": Expected(1, 0.1), "b": Expected(2, 0.5), "c": Expected(0, 1)})
    assert [(row.name, row.passed) for row in rows] == [("a", True), ("b", False), ("c", False)]
    assert math.isnan(rows[2].value)


def test_no_trials() -> None:
    with pytest.raises(ValueError, match="no trials"):
        describe([])


@pytest.mark.parity
def test_recorded_gaze_is_as_expected() -> None:
    path = recorded(REFCOCO_GAZE / "refcocogaze_val_part.json")
    trials = {
        "refcoco_gaze": read_refcoco_gaze(path, REFCOCO_GAZE / "word-timing.json"),
        "osie": read_osie(recorded(OSIE / "fixations.json")),
    }
    for name, found in trials.items():
        rows = compare(describe(held_out_half(name, found)), EXPECTED[name])
        assert [row.name for row in rows if not row.passed] == []
        seen = describe([trial for trial in found if in_reference_half(trial)])  # where the known figures come from
        published = {"people per case", "last fixation on target"}
        for key in set(EXPECTED[name]) - published:
            assert seen[key] == pytest.approx(EXPECTED[name][key].value, rel=0.005, abs=0.001), key


def test_nothing_is_checked_on_what_it_was_measured_on() -> None:
    trials = [replace(two_trials()[0], photo=f"photo {number}") for number in range(40)]
    for name in MEASURED_ON_HALF:
        kept = held_out_half(name, trials)
        assert 0 < len(kept) < 40 and not any(map(in_reference_half, kept))
        with pytest.raises(ValueError, match="half that the reference values come from"):
            held_out_half(name, [trial for trial in trials if in_reference_half(trial)])
    assert held_out_half("world", trials) == trials and set(ORIGINS) == set(EXPECTED)
    assert "no evidence" in ORIGINS["world"]
