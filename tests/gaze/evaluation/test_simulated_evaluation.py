"""Evaluate gaze on simulated scenes: people, oracle, ours, baselines; words delayed."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sa2va.world")
from gaze.support.gaze_model import build_gaze
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from sa2va.gaze.baselines.event_decoder import StoredBaseline
from sa2va.gaze.baselines.image_blind import RandomBaseline
from sa2va.gaze.baselines.slots import ART, SlotConfig
from sa2va.gaze.evaluation import equal_budget, plots
from sa2va.gaze.evaluation import simulated as drawn
from sa2va.gaze.evaluation.bars import judge
from sa2va.gaze.evaluation.equal_budget import Budget, Fitted, fit_events, fit_slots, num_parameters
from sa2va.gaze.evaluation.fits import Fits
from sa2va.gaze.evaluation.markdown import simulated_page
from sa2va.gaze.evaluation.plots import draw_plots
from sa2va.gaze.evaluation.simulated import DelayCurve, HeldOut, SimulatedReport, evaluate_simulated, prepare
from sa2va.gaze.evaluation.table import TESTED, Row, measured_row
from sa2va.gaze.evaluation.tally import Measured, mean_of_cases
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.simulator.cases import make_case
from sa2va.gaze.training import store as stores
from sa2va.world.scenes.splits import DEV, SPLITS, Split

BUDGET = Budget(steps=2, batch=2, rates=(1e-3, 2e-3))
SMALL = SlotConfig(name="slots", num_slots=ART.num_slots, history=True, stochastic=True, only_on_target=False, width=16)


@pytest.fixture(scope="module")
def model() -> ScanpathModel:
    return build_gaze()


@pytest.fixture(scope="module")
def held(model: ScanpathModel, tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "SHARD", 4)
        return prepare(tmp_path_factory.mktemp("held"), DEV, 4, 3, model.decoder.config.grid, model)


@pytest.fixture(scope="module")
def report(model: ScanpathModel, held: HeldOut) -> SimulatedReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn, "NUM_PARTICLES", 20)
        ours, equal = ("ours", model.decoder, "model"), ("equal", model.decoder, "model")
        others = [RandomBaseline, lambda: RandomBaseline(drawn.PICTURE_BOX)]
        return evaluate_simulated(held, [ours], others, held.trials, equal=[equal], num_samples=2, delays=1, jobs=1)


def test_everybody_has_a_row(report: SimulatedReport) -> None:
    names = [
        "oracle likelihood (upper bound)",
        "people, one left out",
        "ours",
        "equal",
        "random",
        "random, in the picture",
    ]
    assert [row.name for row in report.rows] == names
    ours = report.rows[2].figures
    assert {"bits", "last hit", "saccade KL", "duration EMD", "empty ECE", "size gap", "self SS"} <= set(ours)
    assert report.rows[4].figures["bits"] == pytest.approx(0, abs=1e-9)
    assert (
        list(report.bars) == ["ours"]
        and len(report.bars["ours"]) == 6
        and [curve.slower for curve in report.delays] == [-100, 0, 100]
    )
    assert all(len(curve.bits) == len(drawn.SHIFTS) for curve in report.delays)


def test_the_bars_beside_a_picture_are_worth_two_thirds_of_a_bit(report: SimulatedReport) -> None:
    """A drawn picture covers 320 x 320 of the 512 x 320 px of the canvas."""
    assert pytest.approx(math.log2(512 / 320)) == drawn.PICTURE_BITS
    picture = report.rows[5].figures
    assert picture["bits"] == pytest.approx(0.678, abs=1e-3)
    assert picture["bits above the picture"] == pytest.approx(0, abs=1e-9)
    law = report.rows[0].figures
    assert law["bits above the picture"] == pytest.approx(law["bits"] - 0.678, abs=1e-3)


def test_every_figure_says_how_sure_it_is(report: SimulatedReport) -> None:
    ours, other = report.rows[2], report.rows[4]
    for key in ("bits", "SS", "last hit", "size NLL", "saccade EMD", "hit curve gap", "self SS"):
        low, high = ours.intervals[key]
        assert low <= ours.figures[key] <= high and (low < high or key == "last hit"), key
    test = other.ours_less["bits"]
    assert test.value == pytest.approx(ours.figures["bits"]) and test.low <= test.value <= test.high
    assert not ours.ours_less and set(other.ours_less) == {column.key for column in TESTED}


def test_the_page_has_every_table_and_says_what_columns_mean(report: SimulatedReport) -> None:
    page = simulated_page(report, "four")
    assert page.startswith("four\n\n| system | bits | in picture |")
    assert "| system, 95 % interval | bits | SS | last hit | size NLL | EMD px | curve |" in page
    assert "| ours minus this row |" in page and "| criterion |" in page
    assert "worth 0.68 bits" in page and "nan" not in page


def test_no_scene_is_shared_between_what_chooses_and_what_is_quoted() -> None:
    """Neither with training, nor with the expressions that earlier figures were of."""
    splits = [SPLITS["dev"], SPLITS["report"], drawn.TRAINING_SPLIT, Split("train", 0), Split("held-out", 0)]
    assert SPLITS["report"].name not in {split.name for split in splits if split != SPLITS["report"]}
    frames = [make_case(split.seed, split.name, index).frame.tobytes() for split in splits for index in range(6)]
    assert len(set(frames)) == 6 * len(set(splits))


def test_plots_show_every_row(report: SimulatedReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_texts: dict[str, set[str]] = {}

    def texts(figure: Figure, path: Path, **_: object) -> None:
        figure.draw_without_rendering()
        drawn_texts[path.name.split(".")[1]] = {text.get_text() for text in figure.findobj(Text)}
        savefig(figure, path, dpi=40, format="png")

    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", texts)
    paths = draw_plots(report, tmp_path)
    assert [path.name for path in paths] == ["bits.png", "hits.png", "sizes.png", "delays.png"]
    for path in paths:
        with Image.open(path) as image:
            assert np.ptp(np.asarray(image.convert("L"))) == 255, path.name
    with_bits = {row.name: f"{row.figures['bits']:.2f}" for row in report.rows if "bits" in row.figures}
    assert {*with_bits, *with_bits.values()} <= drawn_texts["bits"]
    assert {"people, one left out", "ours", "before", "5", "0", "after"} <= drawn_texts["hits"]
    assert {curve.people for curve in report.delays} <= drawn_texts["delays"]


def test_without_matplotlib_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--plots needs matplotlib; .* pip install 'sa2va\[plots\]'"):
        plots.require_matplotlib()


def test_all_people_at_once_are_as_likely_as_one_by_one(model: ScanpathModel, held: HeldOut) -> None:
    baseline = StoredBaseline("ours", model.decoder, held.store)
    trials = held.trials[:3]
    for one, all_at_once in zip(map(baseline.log_density, trials), baseline.log_densities(trials), strict=True):
        assert one is not None and np.allclose(one, all_at_once, atol=1e-4)
    paths = baseline.sample(trials[0], 2, seed=1)
    assert [path.words for path in paths] == [trials[0].scanpath.words] * 2
    assert baseline.sample(trials[0], 2, seed=1) == paths


def test_what_a_store_says_is_what_the_model_says(model: ScanpathModel, held: HeldOut) -> None:
    case = held.viewings[1][0].case
    with torch.no_grad():
        heard = model.ground([case.frame[None]], [case.expression.words])
    kept = StoredBaseline("ours", model.decoder, held.store).ground(held.trials[3])
    assert (kept.beliefs - heard.beliefs).abs().max() < 1e-3


def test_words_are_told_late_but_the_first_begins_as_it_did(held: HeldOut) -> None:
    viewing = held.viewings[0][0]
    fixations = [step.fixation for step in viewing.steps]
    same, late = (drawn._delay_words(viewing, fixations, shift) for shift in (0.0, 80.0))
    assert same.timing == viewing.case.timing and late.timing is not None and same.timing is not None
    assert late.timing.onsets[0] == same.timing.onsets[0]
    assert late.timing.onsets[-1] == pytest.approx(same.timing.onsets[-1] + 80)
    assert [f.x for f in late.scanpath.fixations] == [f.x for f in same.scanpath.fixations]
    drawn._delay_words(viewing, fixations, -150.0)  # words may meet, they never overlap


def test_the_best_delay_is_the_top_of_the_curve() -> None:
    curve = DelayCurve(0.0, {float(shift): 3 - (shift - 30) ** 2 / 1e4 for shift in range(-150, 151, 50)})
    assert curve.best == pytest.approx(30, abs=1e-6)


def test_bars_say_what_is_missed() -> None:
    people = Row(name="people", kind="people", num_cases=1, figures={"empty packs": 0.25, "self SS": 0.4})
    figures = {"bits": 3.3, "last hit": 0.9, "empty packs": 0.27, "size gap": 0.02, "hit curve gap": 0.06}
    row = Row(name="ours", kind="baseline", num_cases=1, figures=figures | {"self SS": 0.41})
    bars = judge(row, people, Row(name="law", kind="people", num_cases=1, figures={"bits": 3.5}))
    assert [bar.ok for bar in bars] == [True, False, True, True, False, True]
    assert bars[0].name == "bits below the oracle" and bars[0].value == pytest.approx(0.2)
    assert not SimulatedReport(rows=[], bars={"ours": bars, "eyes": []}, delays=[]).passed
    assert SimulatedReport(rows=[], bars={"ours": bars[:1], "eyes": bars}, delays=[]).passed


def test_a_bar_within_the_interval_is_open() -> None:
    """Three of four hits, and half of four: both intervals hold 0.95 or end below it."""
    for hits, is_open in (([1, 1, 1, 0] * 5, False), ([1] * 19 + [0], True)):
        names = tuple(map(str, range(20)))
        measured = Measured(names, names, {"last hit": mean_of_cases(hits)})
        known = dict.fromkeys(("bits", "empty packs", "size gap", "hit curve gap", "self SS"), 0.0)
        row = replace(measured_row("ours", "baseline", measured), figures=known | measured.figures)
        assert judge(row, row, row)[1].open is is_open


def test_others_learn_from_the_same(model: ScanpathModel, held: HeldOut) -> None:
    slots = fit_slots(SMALL, held.store, held.trials, BUDGET)
    assert slots.config.rate in BUDGET.rates and slots.config.steps == 2 and slots.kept > float("-inf")
    baseline = Fitted(slots, held.store)
    baseline.fit([])
    assert baseline.log_density(held.trials[0]).shape == (len(held.trials[0].scanpath.fixations),)
    assert (baseline.pack_size_log_prob(held.trials[0]) <= 0).all()
    made = fit_events(model.decoder.config, held.store, BUDGET)
    assert num_parameters(made) == num_parameters(model.decoder)
    heard = equal_budget.slot_inputs(held.store)(held.trials[0])
    packs = len(held.trials[0].scanpath.packs)
    assert heard.belief.shape == (packs, 4, 640) and len(heard.states) == packs and len(heard.picture) == 640
    ours = held.store.grounding(torch.tensor([0]), "model").beliefs[0]  # here in cells of 32 px
    fine = ours.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)
    assert torch.allclose(heard.belief[:, 0], fine)
    assert torch.allclose(heard.belief[2, 2], fine[0])  # what was believed two words ago


def test_what_rivals_have_learned_is_kept(
    model: ScanpathModel, held: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = Fits(tmp_path, "one store")
    first = fit_slots(SMALL, held.store, held.trials, BUDGET, fits)
    ours = fit_events(model.decoder.config, held.store, BUDGET, fits)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2 * len(BUDGET.rates)

    def refuse(*_: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr(equal_budget.SlotBaseline, "fit", refuse)
    monkeypatch.setattr(equal_budget, "fit_stage", refuse)
    again = fit_slots(SMALL, held.store, held.trials, BUDGET, fits)
    trial = held.trials[0]
    assert again.config == first.config and np.array_equal(again.log_density(trial), first.log_density(trial))
    same = fit_events(model.decoder.config, held.store, BUDGET, fits)
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in ours.state_dict().items())
    for other in (Fits(tmp_path, "another store"), Fits(None)):
        with pytest.raises(AssertionError, match="learned again"):
            fit_slots(SMALL, held.store, held.trials, BUDGET, other)
    next(tmp_path.glob("slots*")).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="delete it, and the run makes it again"):
        fit_slots(SMALL, held.store, held.trials, BUDGET, fits)
