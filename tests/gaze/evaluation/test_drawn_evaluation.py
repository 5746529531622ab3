"""Gaze on drawn scenes is scored whole: people, their law, ours, rivals; words can be told late."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gaze_model import build_gaze

from sa2va.gaze.evaluation import drawn, equals
from sa2va.gaze.evaluation.drawn import Bar, DelayCurve, DrawnReport, HeldOut, evaluate_drawn, judge, prepare
from sa2va.gaze.evaluation.equals import Budget, Fitted, fit_events, fit_slots, num_parameters
from sa2va.gaze.evaluation.plots import draw_plots
from sa2va.gaze.evaluation.table import Row
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.rivals.baselines import RandomLook
from sa2va.gaze.rivals.ours import StoredLook
from sa2va.gaze.rivals.slots import ART, SlotConfig
from sa2va.gaze.training import store as stores
from sa2va.gaze.world.likelihood import Estimate

BUDGET = Budget(steps=2, batch=2, rates=(1e-3, 2e-3))
SMALL = SlotConfig(name="slots", num_slots=ART.num_slots, history=True, chance=True, lands=False, width=16)


@pytest.fixture(scope="module")
def model() -> ScanpathModel:
    return build_gaze()


@pytest.fixture(scope="module")
def held(model: ScanpathModel, tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "SHARD", 4)
        return prepare(tmp_path_factory.mktemp("held"), 4, 3, model.decoder.config.grid, model)


@pytest.fixture(scope="module")
def report(model: ScanpathModel, held: HeldOut) -> DrawnReport:
    with pytest.MonkeyPatch.context() as patch:
        law = Row(name="law", kind="people", num_cases=4, figures={"bits": 3.5}), Estimate(3.5, 0.0)
        patch.setattr(drawn, "law_row", lambda held: law)
        return evaluate_drawn(
            held, [("ours", model.decoder, "model")], [RandomLook], held.trials, num_samples=2, delays=1
        )


def test_everybody_has_a_row(report: DrawnReport) -> None:
    assert [row.name for row in report.rows] == ["law", "people, one left out", "ours", "random"]
    ours = report.rows[2].figures
    assert {"bits", "last hit", "saccade KL", "duration EMD", "empty ECE", "size gap", "self SS"} <= set(ours)
    assert report.rows[3].figures["bits"] == pytest.approx(0, abs=1e-9)
    assert len(report.bars["ours"]) == 6 and [curve.slower for curve in report.delays] == [-100, 0, 100]
    assert all(len(curve.bits) == len(drawn.SHIFTS) for curve in report.delays)


def test_plots_are_pictures(report: DrawnReport, tmp_path: Path) -> None:
    paths = draw_plots(report, tmp_path)
    assert [path.name for path in paths] == ["bits.png", "hits.png", "sizes.png", "delays.png"]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_all_people_at_once_are_as_likely_as_one_by_one(model: ScanpathModel, held: HeldOut) -> None:
    rival = StoredLook("ours", model.decoder, held.store)
    trials = held.trials[:3]
    for one, all_at_once in zip(map(rival.log_density, trials), rival.log_densities(trials), strict=True):
        assert one is not None and np.allclose(one, all_at_once, atol=1e-4)
    paths = rival.sample(trials[0], 2, seed=1)
    assert [path.words for path in paths] == [trials[0].scanpath.words] * 2
    assert rival.sample(trials[0], 2, seed=1) == paths


def test_what_a_store_says_is_what_the_model_says(model: ScanpathModel, held: HeldOut) -> None:
    case = held.viewings[1][0].case
    with torch.no_grad():
        heard = model.understand([case.frame[None]], [case.expression.words])
    kept = StoredLook("ours", model.decoder, held.store).hear(held.trials[3])
    assert (kept.beliefs - heard.beliefs).abs().max() < 1e-3


def test_words_are_told_late_but_the_first_begins_as_it_did(held: HeldOut) -> None:
    viewing = held.viewings[0][0]
    fixations = [step.fixation for step in viewing.steps]
    same, late = (drawn._told_late(viewing, fixations, shift) for shift in (0.0, 80.0))
    assert same.timing == viewing.case.timing and late.timing is not None and same.timing is not None
    assert late.timing.onsets[0] == same.timing.onsets[0]
    assert late.timing.onsets[-1] == pytest.approx(same.timing.onsets[-1] + 80)
    assert [f.x for f in late.scanpath.fixations] == [f.x for f in same.scanpath.fixations]
    drawn._told_late(viewing, fixations, -150.0)  # words may meet, they never overlap


def test_the_best_delay_is_the_top_of_the_curve() -> None:
    curve = DelayCurve(0.0, {float(shift): 3 - (shift - 30) ** 2 / 1e4 for shift in range(-150, 151, 50)})
    assert curve.best == pytest.approx(30, abs=1e-6)


def test_bars_say_what_is_missed() -> None:
    people = Row(name="people", kind="people", num_cases=1, figures={"empty packs": 0.25, "self SS": 0.4})
    figures = {"bits": 3.3, "last hit": 0.9, "empty packs": 0.27, "size gap": 0.02, "hit curve gap": 0.06}
    row = Row(name="ours", kind="rival", num_cases=1, figures=figures | {"self SS": 0.41})
    bars = judge(row, people, Estimate(3.5, 0.01))
    assert [bar.ok for bar in bars] == [True, False, True, True, False, True]
    assert bars[0] == Bar(name="bits below the people's own law", value=pytest.approx(0.2), wanted="<= 0.3", ok=True)


def test_others_learn_from_the_same(model: ScanpathModel, held: HeldOut) -> None:
    slots = fit_slots(SMALL, held.store, held.trials, BUDGET)
    assert slots.config.rate in BUDGET.rates and slots.config.steps == 2 and slots.kept > float("-inf")
    rival = Fitted(slots, held.store)
    rival.fit([])
    assert rival.log_density(held.trials[0]).shape == (len(held.trials[0].scanpath.fixations),)
    assert (rival.pack_size_log_prob(held.trials[0]) <= 0).all()
    made = fit_events(model.decoder.config, held.store, BUDGET)
    assert num_parameters(made) == num_parameters(model.decoder)
    heard = equals.slot_hearing(held.store)(held.trials[0])
    packs = len(held.trials[0].scanpath.packs)
    assert heard.belief.shape == (packs, 40) and len(heard.states) == packs and len(heard.picture) == 40
