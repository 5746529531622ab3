"""Check identity.py: identity switches are counted, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.metrics.identity import SwitchCounter

A, B = np.zeros((2, 4, 8), bool)
A[:, :4], B[:, 4:] = True, True
NONE = np.zeros_like(A)


def count(*frames: tuple[list[np.ndarray], list[np.ndarray]]) -> SwitchCounter:
    counter = SwitchCounter()
    for pred, target in frames:
        counter.update(np.array(pred).reshape(-1, 4, 8), np.array(target))
    return counter


SAME = ([A, B], [A, B])
SWAPPED = ([B, A], [A, B])
LOST = ([NONE, NONE], [A, B])
AWAY = ([A, B], [NONE, NONE])


@pytest.mark.parametrize(
    "frames, switches, matches",
    [
        ([SAME, SAME, SAME], 0, 6),
        ([SAME, SWAPPED, SWAPPED], 2, 6),
        ([SAME, SWAPPED, SAME], 4, 6),
        ([SAME, LOST, SAME], 0, 4),  # lost and found again by the same track
        ([SAME, LOST, SWAPPED], 2, 4),
        ([SAME, AWAY, SAME], 0, 4),
        ([LOST, SWAPPED], 0, 2),  # the first track of an object is no switch
        ([SAME, ([A, A], [A, B])], 0, 3),  # a second track on an object does not take it from the first
        ([([], [A, B])], 0, 0),
    ],
)
def test_switches_are_counted_per_object(frames, switches, matches):
    counter = count(*frames)
    assert (counter.num_switches, counter.num_matches) == (switches, matches)


@given(st.lists(st.permutations([0, 1, 2]), min_size=1, max_size=8))
def test_perfect_masks_switch_as_often_as_rows_move(orders):
    masks = np.zeros((3, 4, 9), bool)
    for row in range(3):
        masks[row, :, 3 * row : 3 * row + 3] = True
    counter = SwitchCounter()
    for order in orders:
        counter.update(masks[order], masks)
    moved = sum(one != other for first, second in zip(orders, orders[1:], strict=False) for one, other in
                zip(first, second, strict=True))  # fmt: skip
    # A permutation moves as many objects from track to track as its inverse moves tracks from object to object.
    assert counter.num_switches == moved
    assert counter.num_matches == 3 * len(orders)


def test_half_an_overlap_is_no_match():
    half = A.copy()
    half[2:] = False
    assert count(([half, B], [A, B])).num_matches == 1
