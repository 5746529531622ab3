import math

import numpy as np
import pytest
from listeners import make_crowd, make_trial

from sa2va.gaze.evaluation import scores
from sa2va.gaze.evaluation.scores import read_cases, sampled_size_nll, score_people, score_samples
from sa2va.gaze.evaluation.table import (
    REFERENCE,
    finish_rows,
    folds_of,
    likelihood_figures,
    people_row,
    prediction_row,
    rival_row,
)
from sa2va.gaze.rivals.baselines import RandomLook, StraightLine
from sa2va.gaze.rivals.mixture import references

UNIFORM = -math.log(512 * 320)


def test_who_repeats_people_scores_as_people() -> None:
    """A person alone in a case, repeated exactly, is a perfect prediction."""
    crowd = make_crowd(num_cases=3, num_people=1)
    cases = read_cases(crowd)
    figures = score_samples(cases, {trial.case: [trial.scanpath.pack_points] for trial in crowd})
    for name in ("SS", "SS_pack", "CC", "ScanMatch", "RSS", "DSS", "last hit"):
        assert figures[name] == pytest.approx(1), name
    for name in ("FED", "FED_pack", "size MAE", "saccade EMD", "hit curve gap"):
        assert figures[name] == pytest.approx(0), name
    assert figures["fixations"] == 6


def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = read_cases(make_crowd(6, 3))
    samples = {case.name: [trial.scanpath.pack_points for trial in case.trials] for case in cases}
    alone = [score_samples(cases, samples), score_people(cases)]
    monkeypatch.setattr(scores, "MANY", 2)
    together = [score_samples(cases, samples), score_people(cases)]
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys()
        assert np.array_equal(list(one.values()), list(other.values()), equal_nan=True)


def test_people_are_scored_against_the_others() -> None:
    """Two who did the same and one who looked elsewhere: 1/2, 1/2 and 0 of the likeness."""
    same = [make_trial([(256, 160), (440, 250)], [-9, 950], subject=name) for name in "ab"]
    other = make_trial([(20, 20), (60, 300)], [-9, 950], subject="c")
    figures = score_people(read_cases([*same, other]))
    assert figures["SS"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert figures["last hit"] == pytest.approx(2 / 3)
    assert math.isnan(figures["saccade EMD"])


def test_missing_packs_are_empty_and_further_ones_join_the_last() -> None:
    (case,) = read_cases(make_crowd(1, 2))
    short = case.look([np.ones((1, 2))])
    assert short.sizes == [1, 0, 0, 0, 0]
    long = case.look([np.full((1, 2), number) for number in range(7)])
    assert long.sizes == [1, 1, 1, 1, 3]
    assert long.packs[-1].tolist() == [[4, 4], [5, 5], [6, 6]]


def test_sizes_counted_from_samples() -> None:
    """Half of the samples have the person's one fixation per word: with half a sample on each size 1.5 of 4."""
    (case,) = read_cases([make_trial([(1, 1)] * 3, [60, 210, 510])])
    one, none = case.people[0].packs, [np.zeros((0, 2))] * 5
    assert sampled_size_nll([case], {"1": [one, none]}) == pytest.approx(-math.log(1.5 / 4))
    assert math.isnan(sampled_size_nll([case], {"1": [one]}))


def test_likelihood_by_hand() -> None:
    """One fixation before, one of a word, one after, 1, 2 and 3 bits above uniform."""
    trial = make_trial([(1, 1)] * 3, [-9, 60, 950])
    bits = np.array([1.0, 2.0, 3.0])
    sizes = np.log([0.9, 0.5, 0.25, 0.125, 0.9])
    figures = likelihood_figures([(trial, UNIFORM + bits * math.log(2), sizes)])
    assert figures["bits"] == pytest.approx(2)
    assert [figures[f"bits {name}"] for name in ("before", "words", "after")] == pytest.approx([1, 2, 3])
    assert figures["size NLL"] == pytest.approx(2 * math.log(2))
    assert likelihood_figures([(trial, None, None)]) == {}


def test_rows_of_rivals() -> None:
    crowd = make_crowd()
    cases, folds = read_cases(crowd), folds_of(crowd, 5)
    assert len(folds) == 3  # photos
    makers = [RandomLook, StraightLine, lambda: references()[3]]
    rows = finish_rows([rival_row(make, cases, folds, num_samples=3, seed=0) for make in makers])
    named = {row.name: row.figures for row in rows}
    assert named["random"]["bits"] == pytest.approx(0, abs=1e-12)
    assert named[REFERENCE]["bits above the reference"] == 0
    assert named["random"]["bits above the reference"] == pytest.approx(-named[REFERENCE]["bits"])
    assert "bits" not in named["straight line to the target"]
    assert named["straight line to the target"]["last hit"] == 1
    again = rival_row(RandomLook, cases, folds, num_samples=3, seed=0)
    assert again.figures["SS"] == named["random"]["SS"]


def test_nobody_learns_from_a_photo_that_is_scored() -> None:
    crowd = make_crowd(8)
    for learned, scored in folds_of(crowd, 4):
        assert not {trial.picture for trial in learned} & {trial.picture for trial in scored}
    every = [id(trial) for _, scored in folds_of(crowd, 4) for trial in scored]
    assert sorted(every) == sorted(map(id, crowd))


def test_predictions_of_some_cases() -> None:
    crowd = make_crowd(4)
    cases = read_cases(crowd)
    row = prediction_row("ours", cases, {"2": [crowd[8].scanpath.pack_points], "unknown": []})
    assert row.num_cases == 1 and 0 < row.figures["SS"] <= 1
    assert people_row(cases).num_cases == 4
    with pytest.raises(ValueError, match="none of its REF_ID"):
        prediction_row("ours", cases, {"unknown": []})


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ([make_trial([], [])], "nobody fixated"),
        ([make_trial([(1, 1)], [0]), make_trial([(1, 1)], [0], words=("a", "b", "c"))], "different words"),
    ],
)
def test_bad_cases(trials: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_cases(trials)
    with pytest.raises(ValueError, match="one picture"):
        folds_of(trials, 5)
