import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.metrics.boundary import boundary_f, boundary_map, disk, jaccard, tolerance_radius


def square(x0: int, side: int = 8, size: int = 24) -> np.ndarray:
    mask = np.zeros((1, size, size), bool)
    mask[0, 8 : 8 + side, x0 : x0 + side] = True
    return mask


def test_outline_of_one_pixel_is_its_upper_left_block() -> None:
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    rows, columns = np.nonzero(boundary_map(mask))
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_the_edge_of_the_picture_is_no_outline() -> None:
    assert not boundary_map(np.ones((1, 6, 6), bool)).any()
    left_half = np.zeros((6, 6), bool)
    left_half[:, :3] = True
    assert np.nonzero(boundary_map(left_half).any(0))[0].tolist() == [2]


@pytest.mark.parametrize(
    ("height", "width", "radius"), [(128, 128, 2), (480, 854, 8), (24, 24, 1), (1080, 1920, 18), (3, 4, 1)]
)
def test_tolerance(height: int, width: int, radius: int) -> None:
    assert tolerance_radius(height, width) == radius


def test_disk() -> None:
    assert disk(1).tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    assert disk(2).sum() == 13


def test_f_of_a_shifted_square_by_hand() -> None:
    """An 8 px square moved by 4 px, tolerance 1 px.

    The outline of a square at rows 8..15 and columns x..x+7 runs through row 7 and row 15, columns x-1..x+7,
    and column x-1 and column x+7, rows 7..15: 9 + 9 + 7 + 7 = 32 px. With x = 8 (A) and x = 12 (B):
    pixels of A within 1 px (a plus-shaped disk) of B are, in rows 7 and 15, those in columns 10..15 (six, B
    starting at column 11), and where A's column 15 meets rows 8 and 14 next to B's rows 7 and 15 (two more).
    That is 6 + 6 + 2 = 14 of 32; the same for B by symmetry.
    """
    assert boundary_map(square(8)).sum() == 32
    assert boundary_f(square(8), square(12)).item() == pytest.approx(14 / 32)
    assert jaccard(square(8), square(12)).item() == pytest.approx(32 / 96)


def test_within_the_tolerance_is_perfect() -> None:
    assert boundary_f(square(8), square(9)).item() == 1.0


def test_empty_frames() -> None:
    empty = np.zeros((1, 24, 24), bool)
    pred = np.concatenate([empty, square(8), empty, square(8)])
    target = np.concatenate([empty, empty, square(8), square(8)])
    assert boundary_f(pred, target).tolist() == [1, 0, 0, 1]
    assert jaccard(pred, target).tolist() == [1, 0, 0, 1]


def test_precision_and_recall_differ() -> None:
    """Precision 0.5 and recall 1 give F = 2 * 0.5 * 1 / 1.5."""
    both = square(2, side=6) | square(16, side=6)
    assert boundary_f(both, square(2, side=6)).item() == pytest.approx(2 / 3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 20), st.integers(2, 20))
def test_identity_and_symmetry(seed: int, num_frames: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.random((2, num_frames, height, width)) < 0.5
    assert (boundary_f(one, one) == 1).all() and (jaccard(one, one) == 1).all()
    assert np.allclose(boundary_f(one, other), boundary_f(other, one))
    assert ((boundary_f(one, other) >= 0) & (boundary_f(one, other) <= 1)).all()


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        boundary_f(square(8), square(8, size=25))
