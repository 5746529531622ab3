import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.metrics.sizes import (
    empty_calibration,
    size_accuracy,
    size_classes,
    size_mae,
    size_nll,
    size_probabilities,
)


def test_large_sizes_share_a_class() -> None:
    assert size_classes([0, 1, 2, 3, 20]).tolist() == [0, 1, 2, 3, 3]


def test_nll_and_accuracy_by_hand() -> None:
    table = [[0.5, 0.5, 0, 0], [0.1, 0.2, 0.3, 0.4]]
    assert size_nll(table, [0, 7]) == pytest.approx(-(math.log(0.5) + math.log(0.4)) / 2)
    assert size_accuracy(table, [0, 7]) == 1.0 and size_accuracy(table, [1, 7]) == 0.5
    assert size_nll(table, [2, 0]) == math.inf


def test_probabilities_from_samples() -> None:
    table = size_probabilities([[0, 1], [0, 5]], smoothing=0.0)
    assert table.tolist() == [[1, 0, 0, 0], [0, 0.5, 0, 0.5]]
    assert size_probabilities([[0, 1]], smoothing=0.5)[0].tolist() == pytest.approx([0.5, 1 / 6, 1 / 6, 1 / 6])


def test_mae() -> None:
    assert size_mae([1, 0.5], [0, 1]) == 0.75


def test_calibration_of_empty_packs() -> None:
    table = [[0.25, 0.75, 0, 0]] * 4
    assert empty_calibration(table, [0, 1, 2, 1]) == pytest.approx(0)
    assert empty_calibration(table, [0, 0, 0, 0]) == pytest.approx(0.75)


@given(st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=5))
def test_true_frequencies_are_the_best_constant(samples: list[list[int]]) -> None:
    sizes = np.array(samples).ravel()
    shares = np.bincount(size_classes(sizes), minlength=4) / len(sizes)
    best = size_nll(np.tile(shares, (len(sizes), 1)), sizes)
    assert best <= size_nll(np.full((len(sizes), 4), 0.25), sizes) + 1e-12
    assert np.allclose(size_probabilities(samples).sum(1), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: size_classes([0.5]), "whole numbers"),
        (lambda: size_classes([-1]), "at least 0"),
        (lambda: size_probabilities([1, 2]), "expected \\(S, E\\)"),
        (lambda: size_nll([[1.0, 0]], [0, 1]), "one row each"),
        (lambda: size_nll([[0.6, 0.6]], [0]), "sum to 1"),
        (lambda: size_nll([[1.5, -0.5]], [0]), "at least 0"),
        (lambda: size_mae([1], [1, 2]), "1 predicted and 2 human"),
        (lambda: size_mae([], []), "0 predicted"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
