import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_gaze import METRICS, packs_of, points_of, read_json, recorded_cases

from sa2va.gaze.metrics.sequence import (
    fixation_edit_distance,
    pack_edit_distance,
    pack_sequence_score,
    pack_strings,
    sequence_score,
    stand_in_strings,
)
from sa2va.gaze.metrics.strings import label_symbols, nearest_symbols, repeated_by_time

CENTERS = [[100, 100], [256, 160], [400, 200]]
PACKS = st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=5)


def test_mean_over_people_by_hand() -> None:
    assert sequence_score([1, 2], [[1, 2], [1, 3, 4, 5]]) == pytest.approx((1 + 0.25) / 2)
    assert fixation_edit_distance([1, 2], [[1, 2], [1, 3, 4, 5]]) == pytest.approx((0 + 3) / 2)


def test_empty_packs_compare_as_what_they_are() -> None:
    """Two packs: empty against empty agrees, empty against one fixation does not."""
    assert pack_sequence_score([[], [1]], [[[], [1]]]) == 1.0
    assert pack_sequence_score([[], []], [[[], [1]]]) == 0.5
    assert pack_edit_distance([[], []], [[[], [1]]]) == 0.5
    assert pack_sequence_score([[1]], [[[1], []]]) == 1.0  # a pack that is not there is an empty one


def test_stand_ins_as_published() -> None:
    packs = [[], [[90, 100], [410, 210]], [], [[256, 160]], []]
    assert stand_in_strings(packs, CENTERS) == [[1], [0, 2], [2], [1], [1]]
    assert pack_strings(packs, CENTERS) == [[], [0, 2], [], [1], []]


def test_missing_packs_as_published() -> None:
    """The prediction's last symbol is said as often as the person fixated, the person's once."""
    assert pack_sequence_score([[1], [2]], [[[1], [2], [2, 2, 2]]], published=True) == 1.0
    assert pack_edit_distance([[1], [2], [2, 2]], [[[1], [2]]], published=True) == pytest.approx(1 / 3)


@given(PACKS, PACKS)
def test_identity_symmetry_and_bounds(one: list[list[int]], other: list[list[int]]) -> None:
    assert pack_sequence_score(one, [one]) == 1.0 and pack_edit_distance(one, [one]) == 0.0
    assert pack_sequence_score(one, [other]) == pytest.approx(pack_sequence_score(other, [one]))
    assert pack_edit_distance(one, [other]) == pytest.approx(pack_edit_distance(other, [one]))
    assert 0 <= pack_sequence_score(one, [other]) <= 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="nobody to compare with"):
        sequence_score([1], [])
    with pytest.raises(ValueError, match="0 and 1 packs"):
        pack_sequence_score([], [[[1]]])


@pytest.mark.parity
def test_recorded_cases() -> None:
    num_compared = 0
    for case, expected in recorded_cases():
        centers = case["cluster_centers"]
        humans = [packs_of(human) for human in case["human"]]
        human_packs = [stand_in_strings(packs, centers) for packs in humans]
        human_strings = [nearest_symbols(np.concatenate(packs), centers) for packs in humans]
        subjects = [human["SUBJECT"] for human in case["human"]]
        assert dict(zip(subjects, human_packs, strict=True)) == case["strings_online"]
        assert dict(zip(subjects, human_strings, strict=True)) == case["strings"]
        for record, figures in zip(case["pred"], expected["pred"], strict=True):
            packs = packs_of(record)
            string = nearest_symbols(np.concatenate(packs), centers)
            strings = stand_in_strings(packs, centers)
            assert string == figures["string"] and strings == figures["string_online"]
            assert sequence_score(string, human_strings) == pytest.approx(figures["SS"], abs=1e-7)
            assert fixation_edit_distance(string, human_strings) == pytest.approx(figures["ED"], abs=1e-12)
            score = pack_sequence_score(strings, human_packs, published=True)
            assert score == pytest.approx(figures["SS_pack"], abs=1e-7)
            distance = pack_edit_distance(strings, human_packs, published=True)
            assert distance == pytest.approx(figures["ED_pack"], abs=1e-12)
            num_compared += 1
    assert num_compared > 200


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["", "Sem"])
@pytest.mark.parametrize("timed", [False, True])
def test_recorded_whole_scanpaths(kind: str, timed: bool) -> None:
    for case in read_json(METRICS / "extra" / "whole_scanpath.json"):
        labels = np.kron(np.array(case["seg_blocks_8x8"]), np.ones((40, 64), int))
        strings = []
        for record in (case["pred"], *case["human"]):
            points = points_of(record)[: case["truncate"]]
            string = label_symbols(points, labels) if kind else nearest_symbols(points, case["centers"])
            strings.append(repeated_by_time(string, record["T"][: len(string)]) if timed else string)
        pred, humans = strings[0], strings[1:]
        suffix = "_time" if timed else ""
        assert sequence_score(pred, humans) == pytest.approx(case["out"][f"{kind}SS{suffix}"], abs=1e-7)
        assert fixation_edit_distance(pred, humans) == pytest.approx(case["out"][f"{kind}FED{suffix}"], abs=1e-12)
