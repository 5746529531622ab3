import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.metrics.diversity import diversity_score, mutual_similarity, recall_score

STRINGS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=4)


def test_mutual_similarity() -> None:
    assert mutual_similarity([[1, 2]]) == 1.0
    assert mutual_similarity([[1, 2], [1, 2], [3, 4]]) == pytest.approx(1 / 3)


def test_a_collapsed_model_pays() -> None:
    """People differ altogether; both models meet each person half the time, only one of them varies."""
    humans = [[1, 1], [2, 2]]
    collapsed, varied = [[1, 2], [1, 2]], [[1, 1], [2, 2]]
    assert diversity_score(collapsed, humans) == pytest.approx(0.5 / 2)
    assert diversity_score(varied, humans) == pytest.approx(0.5)


def test_recall_by_hand() -> None:
    humans = [[1, 1], [2, 2], [3, 3]]
    assert recall_score([[1, 1], [2, 3]], humans) == pytest.approx(1 / 3)
    assert recall_score([[1, 1], [2, 3]], humans, threshold=0.4) == 1.0


@given(STRINGS, STRINGS)
def test_bounds(preds: list, humans: list) -> None:
    assert 0 <= diversity_score(preds, humans) <= 1
    assert 0 <= recall_score(preds, humans) <= 1
    assert recall_score(humans, humans) == 1.0
    assert recall_score(preds + humans, humans) >= recall_score(preds, humans)


def test_nobody() -> None:
    with pytest.raises(ValueError, match="0 samples and 1 people"):
        diversity_score([], [[1]])
    with pytest.raises(ValueError, match="1 samples and 0 people"):
        recall_score([[1]], [])
