import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.metrics.grounded import cosine_similarities, matched_only_iou, num_recalled, word_overlap
from sa2va.metrics.interval import mean, share


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        (np.zeros((0, 0)), 0.0),
        (np.zeros((0, 2)), 0.0),
        (np.zeros((2, 2)), 0.0),  # no overlap at all: no pairs
        (np.array([[0.8, 0.0]]), 0.8),  # a missed object does not count
        (np.array([[0.8], [0.0]]), 0.8),  # nor does an invented one
        (np.array([[0.9, 0.8], [0.85, 0.1]]), 0.5),  # greedy: 0.9 and 0.1
    ],
)
def test_matched_only_iou(similarity: np.ndarray, expected: float) -> None:
    assert matched_only_iou(similarity) == pytest.approx(expected)


SAME = np.ones((2, 2))


@pytest.mark.parametrize(
    ("similarity", "text", "expected"),
    [
        (np.eye(2), np.eye(2), 2),
        (np.diag([0.5, 0.49]), SAME, 1),  # 0.5 is enough, 0.49 is not
        (np.diag([0.9, 0.6]), np.diag([0.4, 1.0]), 0),  # the first rejected pair ends the picture
        (np.diag([0.6, 0.9]), np.diag([0.4, 1.0]), 1),
        (np.array([[0.9, 0.8], [0.85, 0.1]]), SAME, 1),  # greedy, then 0.1
        (np.eye(3)[:, :2], SAME, 0),  # three masks, two phrases
        (np.eye(2), np.ones((3, 2)), 0),  # two masks, three phrases
        (np.zeros((0, 2)), np.zeros((0, 2)), 0),
        (np.zeros((0, 0)), np.zeros((0, 0)), 0),
    ],
)
def test_recalled_phrases(similarity: np.ndarray, text: np.ndarray, expected: int) -> None:
    assert num_recalled(similarity, text) == expected


def test_the_released_code_fails_only_where_a_phrase_is_missing() -> None:
    assert num_recalled(np.diag([0.9, 0.8]), np.ones((1, 2)), released=True) == 0  # the second mask has none
    assert num_recalled(np.diag([0.9, 0.4]), np.ones((1, 2)), released=True) == 1  # nobody asks for the second
    assert num_recalled(np.eye(2), np.ones((3, 2)), released=True) == 2


def naive_pairs(similarity: np.ndarray) -> list[tuple[float, int, int]]:
    """Match one to one by looking at every pair again and again; rows are true masks."""
    rows, columns = set(range(similarity.shape[0])), set(range(similarity.shape[1]))
    pairs = []
    while True:
        left = [(-similarity[r, c], r, c) for r, c in itertools.product(sorted(rows), sorted(columns))]
        if not left or -min(left)[0] <= 0:
            return pairs
        value, row, column = min(left)
        pairs.append((-value, row, column))
        rows.remove(row)
        columns.remove(column)


def naive_recall(pictures: list[tuple[np.ndarray, np.ndarray]]) -> float:
    found = gold = 0
    for similarity, text in pictures:
        gold += text.shape[1]
        if similarity.shape != text.shape:
            continue
        for value, column, row in naive_pairs(similarity.T):
            if value < 0.5 or text[row, column] < 0.5:
                break
            found += 1
    return found / gold if gold else 0.0


def test_agrees_with_an_implementation_in_loops() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        pictures = []
        for _ in range(int(rng.integers(1, 6))):
            shape = tuple(rng.integers(0, 5, 2))
            text_shape = shape if rng.random() < 0.7 else tuple(rng.integers(0, 5, 2))
            pictures.append((rng.choice([0, 0.3, 0.5, 0.7, 0.9], shape), rng.choice([0.2, 0.5, 0.8], text_shape)))
        ious = [[value for value, _, _ in naive_pairs(similarity)] for similarity, _ in pictures]
        expected = sum(sum(values) / len(values) if values else 0.0 for values in ious) / len(ious)
        assert mean([matched_only_iou(similarity) for similarity, _ in pictures]) == pytest.approx(expected, abs=1e-9)
        rows = [(num_recalled(similarity, text), text.shape[1]) for similarity, text in pictures]
        assert share(rows) == pytest.approx(
            naive_recall(pictures) if sum(row[1] for row in rows) else np.nan, nan_ok=True
        )


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_perfect_on_itself(seed: int, number: int) -> None:
    order = np.random.default_rng(seed).permutation(number)
    itself = np.eye(number)[order]
    assert matched_only_iou(itself) == 1.0
    assert num_recalled(itself, itself) == number


def test_word_overlap() -> None:
    found = word_overlap(["The red ball.", "a dog"], ["red ball", "the dog the dog", ""])
    assert found == pytest.approx(np.array([[4 / 5, 2 / 7, 0], [0, 2 / 6, 0]]))
    assert word_overlap([], ["a"]).shape == (0, 1)


def test_cosine_similarities() -> None:
    found = cosine_similarities([[3, 4], [0, 0]], [[6, 8], [4, -3], [-3, -4]])
    assert found == pytest.approx(np.array([[1, 0, -1], [0, 0, 0]]))
