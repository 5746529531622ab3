"""Check gaze on the drawn world: the same for the same numbers, and human in every figure we know."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sa2va.world")
from sa2va.data.check import compare
from sa2va.gaze.metrics.likelihood import bits_per_fixation, uniform_log_density
from sa2va.gaze.metrics.target import inside_box, last_hit
from sa2va.gaze.simulator import dataset as world
from sa2va.gaze.simulator.cases import LETTERBOX, make_case
from sa2va.gaze.simulator.dataset import NUM_PEOPLE, Viewing, make_viewing, read_simulated
from sa2va.gaze.simulator.observers import draw_observer
from sa2va.gaze.statistics import EXPECTED, describe
from sa2va.world.tasks.items import SIDE


@pytest.fixture(scope="module")
def viewings() -> list[Viewing]:
    return [make_viewing(1, "val", index, subject) for index in range(12) for subject in (index, index + 1)]


def test_an_item_is_a_pure_function_of_its_numbers() -> None:
    first = make_viewing(1, "val", 5, 3)
    make_viewing(1, "val", 6, 4)
    make_case.cache_clear()
    again = make_viewing(1, "val", 5, 3)
    assert again.trial == first.trial and repr(again.steps) == repr(first.steps)
    others = [make_viewing(2, "val", 5, 3), make_viewing(1, "train", 5, 3), make_viewing(1, "val", 6, 3)]
    assert all(other.trial.scanpath != first.trial.scanpath for other in others)
    neighbor = make_viewing(1, "val", 5, 4)
    assert neighbor.case is make_case(1, "val", 5)  # drawn once for all people
    assert neighbor.trial.scanpath.points.tolist() != first.trial.scanpath.points.tolist()


def test_a_trial_is_what_its_steps_say(viewings: list[Viewing]) -> None:
    for viewing in viewings:
        trial, path = viewing.trial, viewing.trial.scanpath
        assert (path.width, path.height, path.image) == (SIDE, SIDE, viewing.case.name)
        assert path.words == tuple(trial.expression.split()) and len(path.packs) == len(path.words) + 2
        steps = [step.fixation for step in viewing.steps]
        assert np.allclose(LETTERBOX.to_canvas(path.points), [(step.x, step.y) for step in steps])
        assert path.starts.tolist() == [step.start for step in steps]
        assert path.durations.tolist() == [step.duration for step in steps]
        assert path.points.min() >= 0 and path.points.max() <= SIDE
        assert trial.target == viewing.case.boxes[viewing.case.target] and trial.timing == viewing.case.timing
        assert trial.noun is not None and trial.noun[0] in trial.timing.onsets
        assert trial.ended == pytest.approx(steps[-1].start + steps[-1].duration)
        assert last_hit(inside_box(path.points, trial.target))
        assert viewing.observer == draw_observer(1, int(trial.subject))


def test_belief_ends_at_the_target(viewings: list[Viewing]) -> None:
    for viewing in viewings:
        last = viewing.steps[-1]
        if last.heard == len(viewing.trial.scanpath.words):
            assert int(np.argmax(last.belief)) == viewing.case.target


def is_inside(point: np.ndarray, mask: np.ndarray) -> bool:
    column, row = np.floor(point).astype(int)
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])


def test_fixations_aimed_at_an_object_mostly_land_on_it(viewings: list[Viewing]) -> None:
    hits = []
    for viewing in viewings:
        for step, point in zip(viewing.steps, viewing.trial.scanpath.points, strict=True):
            if step.aim is not None:
                hits.append(is_inside(point, viewing.case.masks[step.aim]))
    assert np.mean(hits) > 0.6


def test_the_truth_is_worth_bits(viewings: list[Viewing]) -> None:
    """Above uniform on the canvas the stated density has what the best of models could have: about three bits."""
    stated = [step.log_density for viewing in viewings for step in viewing.steps[1:]]
    bits = bits_per_fixation(stated, uniform_log_density(len(stated), *world.CANVAS))
    assert math.isfinite(bits) and 2.5 < bits < 4.0


def test_everybody_sees_about_as_much() -> None:
    trials = read_simulated(num_cases=44, people_per_case=10)
    seen = {subject: sum(trial.subject == subject for trial in trials) for subject in {t.subject for t in trials}}
    assert len(seen) == NUM_PEOPLE and set(seen.values()) == {2}
    figures = describe(trials)
    assert figures["people per case"] == 10 and figures["last fixation on target"] == 1


def test_a_small_sample_looks_human() -> None:
    """The limits are wider than those of the slow test, because few cases decide."""
    figures = describe(read_simulated(num_cases=60, people_per_case=5))
    wide = {name: replace(known, tolerance=1.6 * known.tolerance) for name, known in EXPECTED["world"].items()}
    assert [row for row in compare(figures, wide) if not row.passed] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_drawn_people_look_human(seed: int) -> None:
    """Prints ours, the figure of people, and how far apart they may be."""
    rows = compare(describe(read_simulated(seed=seed)), EXPECTED["world"])
    for row in rows:
        print(f"{row.name:32}{row.value:10.3f}{row.expected.value:10.3f} ±{row.expected.tolerance:<8.3f}{row.passed}")
    assert [row for row in rows if not row.passed] == []


@pytest.mark.parametrize("numbers", [{"num_cases": 0}, {"people_per_case": 0}, {"people_per_case": NUM_PEOPLE + 1}])
def test_bad_numbers(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least 1 case and 1..220 people"):
        read_simulated(**numbers)
