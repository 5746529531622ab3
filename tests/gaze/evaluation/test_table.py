import math
from zlib import crc32

import numpy as np
import pytest
from gaze.support.trials import make_crowd, make_trial

from sa2va.gaze.baselines.image_blind import RandomBaseline, StraightLine
from sa2va.gaze.baselines.mixture import references
from sa2va.gaze.evaluation import scores, tally
from sa2va.gaze.evaluation.cases import other_scanpaths, read_cases
from sa2va.gaze.evaluation.pooled import likelihoods
from sa2va.gaze.evaluation.scores import score_people, score_samples
from sa2va.gaze.evaluation.table import (
    ABOVE,
    Row,
    baseline_row,
    finish_rows,
    folds_of,
    people_row,
    prediction_row,
)
from sa2va.gaze.evaluation.tally import Measured, mean_of_cases
from sa2va.gaze.metrics.sizes import size_nll, size_probabilities
from sa2va.gaze.trial import group_cases

UNIFORM = -math.log(512 * 320)


def test_who_repeats_people_scores_as_people() -> None:
    """A person alone in a case, repeated exactly, is a perfect prediction."""
    crowd = make_crowd(num_cases=3, num_people=1)
    cases = read_cases(crowd)
    figures = score_samples(cases, {trial.case: [trial.scanpath.pack_points] for trial in crowd}).figures
    for name in ("SS", "SS_pack", "CC", "ScanMatch", "RSS", "DSS", "last hit"):
        assert figures[name] == pytest.approx(1), name
    for name in ("FED", "FED_pack", "size MAE", "saccade EMD", "hit curve gap"):
        assert figures[name] == pytest.approx(0), name
    assert figures["fixations"] == 6


def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = read_cases(make_crowd(6, 3))
    samples = {case.name: [trial.scanpath.pack_points for trial in case.trials] for case in cases}
    alone = [score_samples(cases, samples).figures, score_people(cases).figures]
    monkeypatch.setattr(scores, "MANY", 2)
    together = [score_samples(cases, samples).figures, score_people(cases).figures]
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys()
        assert np.array_equal(list(one.values()), list(other.values()), equal_nan=True)


def test_people_are_scored_against_the_others() -> None:
    """Two who did the same and one who looked elsewhere: 1/2, 1/2 and 0 of the likeness."""
    same = [make_trial([(256, 160), (440, 250)], [-9, 950], subject=name) for name in "ab"]
    other = make_trial([(20, 20), (60, 300)], [-9, 950], subject="c")
    figures = score_people(read_cases([*same, other])).figures
    assert figures["SS"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert figures["last hit"] == pytest.approx(2 / 3)
    assert "saccade EMD" not in figures


def test_who_does_as_people_do_scores_as_people() -> None:
    """Samples that are the people's own looks are compared with as many others as each person is."""
    crowd = make_crowd(4, 5)
    cases = read_cases(crowd)
    people = score_people(cases).figures
    samples = {case.name: [trial.scanpath.pack_points for trial in case.trials] for case in cases}
    ours = score_samples(cases, samples).figures
    for name in sorted(set(people) - {"DSS"}):
        assert ours[name] == pytest.approx(people[name], nan_ok=True), name
    assert {"SS", "FED", "CC", "NSS", "RSS", "NSS of the mean map", "size NLL", "empty ECE", "size MAE"} <= set(people)


def test_looks_of_others() -> None:
    """As many as there are other people, without the one in the same seat."""
    (case,) = read_cases(make_crowd(1, 4))
    named = {id(look): number for number, look in enumerate(case.people)}
    seen = [[named[id(look)] for look in other_scanpaths(case.people, seat, 4)] for seat in range(4)]
    assert seen == [[1, 2, 3], [2, 3, 0], [3, 0, 1], [0, 1, 2]]
    assert len(other_scanpaths(case.people, 1, 3)) == 2 and len(other_scanpaths(case.people[:2], 1, 4)) == 2
    assert len(other_scanpaths(case.people, 0, 1)) == 4  # nobody else looked: all samples count


def test_missing_packs_are_empty_and_further_ones_join_the_last() -> None:
    (case,) = read_cases(make_crowd(1, 2))
    short = case.encode([np.ones((1, 2))])
    assert short.sizes == [1, 0, 0, 0, 0]
    long = case.encode([np.full((1, 2), number) for number in range(7)])
    assert long.sizes == [1, 1, 1, 1, 3]
    assert long.packs[-1].tolist() == [[4, 4], [5, 5], [6, 6]]


def test_sizes_counted_from_samples() -> None:
    """Half of the samples have the person's one fixation per word: with half a sample on each size 1.5 of 4."""
    (case,) = read_cases([make_trial([(1, 1)] * 3, [60, 210, 510])])
    one, none = case.people[0].packs, [np.zeros((0, 2))] * 5
    found = score_samples([case], {"1": [one, none]}).figures
    assert found["size NLL"] == pytest.approx(-math.log(1.5 / 4))
    assert "size NLL" not in score_samples([case], {"1": [one]}).figures


def test_sizes_are_foretold_with_the_same_knowledge_by_all() -> None:
    """A reference that has a law of the clock is counted from its samples, as everybody is; its law stands beside."""
    crowd = make_crowd()
    cases, folds = read_cases(crowd), folds_of(crowd, 3)
    row = baseline_row(RandomBaseline, cases, folds, num_samples=3, seed=0)
    baseline, losses = RandomBaseline(), {}
    for learned, scored in folds:
        baseline = RandomBaseline()
        baseline.fit(learned)
        for name, trials in group_cases(scored).items():
            drawn = baseline.sample(trials[0], 3, crc32(f"0/{name}".encode()))
            for seat, trial in enumerate(trials):
                rest = [drawn[(seat + step) % 3].sizes[1:-1] for step in range(1, len(trials))]
                table = size_probabilities(np.array(rest))
                losses[name, seat] = size_nll(table, trial.scanpath.sizes[1:-1])
    assert row.figures["size NLL"] == pytest.approx(np.mean(list(losses.values())))
    assert row.figures["size NLL of the model"] != pytest.approx(row.figures["size NLL"], abs=1e-3)


def test_likelihood_by_hand() -> None:
    """One fixation before, one of a word, one after, 1, 2 and 3 bits above uniform."""
    trial = make_trial([(1, 1)] * 3, [-9, 60, 950])
    bits = np.array([1.0, 2.0, 3.0])
    sizes = np.log([0.9, 0.5, 0.25, 0.125, 0.9])
    found = likelihoods([[(trial, UNIFORM + bits * math.log(2), sizes)]])
    figures = Measured(("a",), ("a",), found).figures
    assert figures["bits"] == pytest.approx(2)
    assert [figures[f"bits {name}"] for name in ("before", "words", "after")] == pytest.approx([1, 2, 3])
    assert figures["size NLL of the model"] == pytest.approx(2 * math.log(2))
    assert likelihoods([[(trial, None, None)]]) == {}


def test_rows_of_rivals() -> None:
    crowd = make_crowd()
    cases, folds = read_cases(crowd), folds_of(crowd, 5)
    assert len(folds) == 3  # photos
    makers = [RandomBaseline, StraightLine, lambda: references()[2], lambda: references()[3]]
    rows = finish_rows([baseline_row(make, cases, folds, num_samples=3, seed=0) for make in makers])
    named = {row.name: row.figures for row in rows}
    assert named["random"]["bits"] == pytest.approx(0, abs=1e-12)
    best = max((references()[number].name for number in (2, 3)), key=lambda name: named[name]["bits"])
    assert named[best][ABOVE] == 0 and all(figures[ABOVE] <= 0 for figures in named.values() if "bits" in figures)
    assert named["random"][ABOVE] == pytest.approx(-named[best]["bits"])
    assert "bits" not in named["straight line to the target"]
    assert named["straight line to the target"]["last hit"] == 1
    again = baseline_row(RandomBaseline, cases, folds, num_samples=3, seed=0)
    assert again.figures["SS"] == named["random"]["SS"]


def test_the_strongest_reference_is_the_one_to_be_above() -> None:
    known = {"previous fixation + target box": 2.9, "previous fixation + target box + order": 3.1, "ours": 3.4}
    rows = [Row(name=name, kind="baseline", num_cases=1, figures={"bits": bits}) for name, bits in known.items()]
    assert [row.figures[ABOVE] for row in finish_rows(rows)] == pytest.approx([-0.2, 0, 0.3])


def test_cases_of_one_picture_are_no_independent_evidence() -> None:
    """Forty cases of eight pictures that differ, all cases of a picture alike: only the eight count."""
    values, groups = np.repeat(np.arange(8.0), 5), tuple(np.repeat(list("abcdefgh"), 5))
    names = tuple(map(str, range(40)))
    grouped = Measured(names, groups, {"x": mean_of_cases(values)}).interval("x")
    single = Measured(names, names, {"x": mean_of_cases(values)}).interval("x")
    assert grouped is not None and single is not None
    assert (grouped[1] - grouped[0]) / (single[1] - single[0]) == pytest.approx(5**0.5, rel=0.1)
    assert Measured(names, ("a",) * 40, {"x": mean_of_cases(values)}).interval("x") is None


def test_drawing_a_case_twice_is_having_it_twice() -> None:
    """Every figure of weights 2 and 1 is that of the cases with the first one repeated."""
    crowd = make_crowd(2, 4)
    first, second = read_cases(crowd)
    samples = {case.name: [trial.scanpath.pack_points for trial in crowd[::3]] for case in (first, second)}
    weighted = score_samples([first, second], samples).statistics
    repeated = score_samples([first, second, first], samples).figures
    assert {"saccade EMD", "saccade KL", "hit curve gap", "size gap", "empty ECE", "size NLL", "SS"} <= set(repeated)
    for name, value in repeated.items():
        assert weighted[name](np.array([2.0, 1.0])) == pytest.approx(value, nan_ok=True), name


def test_rows_on_other_cases_are_not_tested_against_each_other() -> None:
    names = tuple("abc")
    one = Measured(names, names, {"x": mean_of_cases([3.0, 4.0, 5.0])})
    other = Measured(names, names, {"x": mean_of_cases([1.0, 2.0, 3.0])})
    assert one.minus(other, "x") == pytest.approx((2.0, 2.0, 2.0, 1 / tally.NUM_RESAMPLES))
    assert one.minus(Measured(tuple("abd"), names, other.statistics), "x") is None and one.minus(other, "y") is None


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
    with pytest.raises(ValueError, match="contains no REF_ID of the data"):
        prediction_row("ours", cases, {"unknown": []})


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ([make_trial([], [])], "no fixations"),
        ([make_trial([(1, 1)], [0]), make_trial([(1, 1)], [0], words=("a", "b", "c"))], "different words"),
    ],
)
def test_bad_cases(trials: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_cases(trials)
    with pytest.raises(ValueError, match="one image"):
        folds_of(trials, 5)
