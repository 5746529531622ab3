import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.metrics.sequence import (
    fixation_edit_distance,
    pack_edit_distance,
    pack_sequence_score,
    sequence_score,
    stand_in_strings,
)

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
    with pytest.raises(ValueError, match="no human scanpaths"):
        sequence_score([1], [])
    with pytest.raises(ValueError, match="0 and 1 packs"):
        pack_sequence_score([], [[[1]]])
