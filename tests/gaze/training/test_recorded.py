"""Check that training on recordings learns, resumes, and refuses trials without fixations."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sa2va.world")
from gaze.support.gaze_model import clock, draw_path

from sa2va.gaze.baselines.event_decoder import EventBaseline
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.model.decoder import DecoderConfig
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.events import EventBatch, collate
from sa2va.gaze.model.oracle import box_map
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.training.recorded import (
    RecordedConfig,
    RecordedModule,
    RecordedStage,
    mirror,
    read_recordings,
    train_recorded,
)
from sa2va.gaze.trial import Trial
from sa2va.model.losses import LossTerm

WORDS = ("red", "car", "parked")
TIMING = clock([300.0, 250.0, 400.0])
BOX = (300.0, 60.0, 400.0, 160.0)
SMALL = DecoderConfig(width=16, place_width=8, cell=32, num_observers=2, num_layers=1)


def make_trials(count: int = 12) -> list[Trial]:
    """Simulate random scanpaths that end on the target."""
    trials = []
    for seed in range(count):
        path = draw_path(WORDS, TIMING, seed)
        points = path.points
        points[-3:] = np.array([350.0, 110.0]) + np.random.default_rng(seed).normal(0, 12, (3, 2))
        moved = path.with_points(points, *CANVAS)
        trials.append(
            Trial(scanpath=moved, case="1", subject=str(seed), target=BOX, timing=TIMING, photo=str(seed % 3))
        )
    return trials


def make_config(steps: int = 40) -> RecordedConfig:
    config = RecordedConfig(decoder=SMALL)
    return replace(config, stage=replace(config.stage, steps=steps, batch_size=8, lr=1e-2, warmup_steps=2, ema=0.0))


@pytest.fixture(scope="module")
def baseline() -> EventBaseline:
    baseline = EventBaseline(config=make_config())
    baseline.fit(make_trials())
    return baseline


def test_people_become_more_likely(baseline: EventBaseline) -> None:
    trials = make_trials(3)
    blank = EventBaseline(config=make_config(0))
    blank.fit(make_trials())
    before, after = (np.concatenate([one.log_density(trial) for trial in trials]) for one in (blank, baseline))
    assert len(after) == sum(len(trial.scanpath.fixations) for trial in trials)
    assert after.mean() > before.mean() + 0.5


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread, since several add gradients in varying order."""
    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(kept)


def test_sizes_are_probabilities_of_what_people_did(baseline: EventBaseline) -> None:
    trial = make_trials(1)[0]
    logs = baseline.pack_size_log_prob(trial)
    assert logs.shape == (5,) and (logs < 0).all()
    assert logs[1:-1].mean() > np.log(0.25)  # better than four even classes


def test_samples_fill_the_packs_of_the_case(baseline: EventBaseline) -> None:
    trial = make_trials(1)[0]
    paths = baseline.sample(trial, 4, seed=3)
    assert [path.words for path in paths] == [WORDS] * 4
    assert [path.to_json() for path in baseline.sample(trial, 4, seed=3)] == [path.to_json() for path in paths]
    blind = replace(trial, scanpath=Scanpath.from_packs([], [], WORDS, width=CANVAS[0], height=CANVAS[1]))
    assert [path.to_json()["packs"] for path in baseline.sample(blind, 4, 3)] == [p.to_json()["packs"] for p in paths]


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    config = make_config(6)
    saving = replace(config, stage=replace(config.stage, save_every=2))
    whole = train_recorded(make_trials(), config)
    real, calls = RecordedModule.forward, []

    def die(self: RecordedModule, batch: EventBatch) -> dict[str, LossTerm]:
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("killed")
        return real(self, batch)

    monkeypatch.setattr(RecordedModule, "forward", die)
    with pytest.raises(RuntimeError, match="killed"):
        train_recorded(make_trials(), saving, folder=tmp_path)
    again = train_recorded(make_trials(), saving, folder=tmp_path)
    assert len(calls) == 5 + 2  # the two that no saved state had
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    assert '"place"' in (tmp_path / "log.jsonl").read_text()


def test_every_scanpath_comes_once_in_a_round() -> None:
    config = make_config()
    stage = RecordedStage(
        config, train_recorded(make_trials(), make_config(0)), read_recordings(make_trials(), Grid(32))
    )
    counts = np.zeros(12)
    for step in range(3):  # 3 * 8 = 2 * 12
        keys = stage.data.keys(step)
        batch = stage.data.collate([stage.data[key] for key in keys])
        assert len(batch.valid) == 8 and keys == stage.data.keys(step)
        np.add.at(counts, [key[0] for key in keys], 1)
    assert (counts == 2).all()


def test_a_mirror_twice_is_nothing() -> None:
    batch = collate(
        [read_recordings(make_trials(2), Grid(32))[n].tokens for n in range(2)], [torch.rand(5, 10, 16)] * 2
    )
    once = mirror(batch, torch.tensor([True, False]))
    assert torch.equal(once.facts[1], batch.facts[1]) and not torch.equal(once.beliefs[0], batch.beliefs[0])
    assert once.target[0, 0, 0] == 512 - batch.target[0, 0, 0]
    twice = mirror(once, torch.tensor([True, False]))
    assert torch.allclose(twice.facts, batch.facts, atol=1e-3) and torch.equal(twice.beliefs, batch.beliefs)


def test_a_box_covers_its_share_of_each_cell() -> None:
    cover = box_map((300.0, 60.0, 400.0, 160.0), Grid(16))
    assert float(cover.sum()) * 256 == pytest.approx(100 * 100)
    assert float(cover[5, 20]) == 1 and float(cover[0, 0]) == 0
    assert float(box_map((100.0, 100.0, 100.0, 100.0), Grid(16)).sum()) * 256 == pytest.approx(1)
    assert not box_map(None, Grid(16)).any()
    assert float(box_map((-50.0, -50.0, 16.0, 16.0), Grid(16)).sum()) == pytest.approx(1)


def test_what_teaches_nothing_is_refused_in_one_line() -> None:
    empty = replace(make_trials(1)[0], scanpath=Scanpath.from_packs([], [], WORDS, width=512, height=320))
    with pytest.raises(ValueError, match="1 trials have no fixation"):
        read_recordings([empty], Grid(16))
    with pytest.raises(ValueError, match="lies outside the canvas"):
        read_recordings([replace(make_trials(1)[0], target=(600.0, 0.0, 700.0, 50.0))], Grid(16))
    with pytest.raises(ValueError, match="not trained yet; call fit first"):
        EventBaseline().log_density(make_trials(1)[0])
    assert EventBaseline().log_density(empty).shape == (0,)
