from sa2va.gaze.metrics.consistency import leave_one_out
from sa2va.gaze.metrics.sequence import sequence_score


def test_each_against_the_others() -> None:
    seen = []

    def score(one: str, others: list[str]) -> float:
        seen.append((one, others))
        return float(len(others))

    assert leave_one_out("abc", score).tolist() == [2, 2, 2]
    assert seen == [("a", ["b", "c"]), ("b", ["a", "c"]), ("c", ["a", "b"])]


def test_with_a_real_score() -> None:
    assert leave_one_out([[1], [1], [2]], sequence_score).tolist() == [0.5, 0.5, 0.0]


def test_nobody_to_compare_with() -> None:
    assert leave_one_out([[1]], sequence_score).shape == leave_one_out([], sequence_score).shape == (0,)
