import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.metrics.behavior import SaccadeKinds, saccade_kinds

FIXATIONS = st.lists(
    st.tuples(st.tuples(st.integers(0, 511), st.integers(0, 319)), st.sampled_from([None, 1, 2, 3])), max_size=8
)


def test_by_hand() -> None:
    """Stay near, to object 1, along object 1, to object 2, to nothing, back to object 1."""
    points = [[0, 0], [10, 0], [100, 0], [150, 0], [300, 0], [300, 100], [100, 0]]
    objects = [None, None, 1, 1, 2, None, 1]
    assert saccade_kinds(points, objects) == SaccadeKinds(waiting=2, scanning=2, elsewhere=1, verifying=1)


@pytest.mark.parametrize("num_fixations", [0, 1])
def test_no_saccade(num_fixations: int) -> None:
    assert saccade_kinds([[5, 5]] * num_fixations, [1] * num_fixations).total == 0


@given(FIXATIONS, FIXATIONS)
def test_every_saccade_has_one_kind(one: list, other: list) -> None:
    kinds = [saccade_kinds([point for point, _ in path], [seen for _, seen in path]) for path in (one, other)]
    assert [each.total for each in kinds] == [max(len(path) - 1, 0) for path in (one, other)]
    assert (kinds[0] + kinds[1]).total == kinds[0].total + kinds[1].total
    assert kinds[0].scanning <= 3


@pytest.mark.parametrize("objects", [[], [1], [1, 2, 3]])
def test_one_object_per_fixation(objects: list) -> None:
    with pytest.raises(ValueError, match=f"{len(objects)} objects for 2 fixations"):
        saccade_kinds([[0, 0], [9, 9]], objects)
