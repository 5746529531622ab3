import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gaze.support.trials import make_crowd, make_trial

from sa2va.gaze.baselines.slots import (
    ART,
    EMPTY,
    FIXATION,
    SCANVLA,
    STOP,
    SlotBaseline,
    _inputs,
    _stack,
    _targets,
    target_inputs,
)
from sa2va.gaze.model.decoder import DecoderConfig

SMALL = [replace(config, steps=3, width=16, num_layers=1, batch=8) for config in (ART, SCANVLA)]


@pytest.mark.parametrize("config", SMALL, ids=["art", "scanvla"])
def test_what_every_rival_keeps(config) -> None:
    crowd = make_crowd(4, 2)
    # Enough steps that a slot is filled at all: where nothing is looked at, chance has nothing to draw.
    baseline, case = SlotBaseline(replace(config, steps=40)), make_trial([], [], case="new", photo="new")
    baseline.fit(crowd)
    paths = baseline.sample(case, 20, seed=1)
    assert len(paths) == 20 and baseline.sample(case, 20, seed=1) == paths
    assert all(len(path.points) >= 1 and (path.points >= 0).all() for path in paths)
    assert any(path != paths[0] for path in paths) is config.stochastic
    assert baseline.log_density(crowd[0]).shape == (6,)
    sizes = baseline.pack_size_log_prob(crowd[0])
    assert sizes.shape == (5,) and (sizes <= 0).all()


@pytest.mark.parametrize("config", SMALL, ids=["art", "scanvla"])
def test_nothing_of_a_later_word_is_seen(config) -> None:
    """What is predicted for the first word is the same, bit for bit, whatever the third word is."""
    baseline = SlotBaseline(config)
    looked = [make_trial([(250, 160), (300, 200)], [-9, 60], words=("the", "red", word)) for word in ("cup", "x" * 30)]
    one, other = (baseline._predict(trial) for trial in looked)
    assert np.array_equal(one[1][:3], other[1][:3]) and np.array_equal(one[0][:3], other[0][:3])
    assert not np.array_equal(one[1][3], other[1][3])


def test_only_one_of_them_reads_the_past() -> None:
    trials = [make_trial([(x, 160), (300, 200)], [-9, 60]) for x in (100, 400)]
    for config, reads in zip(SMALL, (True, False), strict=True):
        one, other = (SlotBaseline(config)._predict(trial)[1] for trial in trials)
        assert (not np.allclose(one[1], other[1])) is reads


def test_the_density_sums_to_one() -> None:
    baseline = SlotBaseline(SMALL[0])
    columns, rows = np.meshgrid(np.arange(16, 512, 32), np.arange(16, 320, 32))
    total = 0.0
    for x, y in zip(columns.ravel().tolist(), rows.ravel().tolist(), strict=True):
        total += 1024 * math.exp(baseline.log_density(make_trial([(256, 160), (x, y)], [-9, 60]))[1])
    assert total == pytest.approx(1, abs=0.03)


def test_targets_by_hand() -> None:
    """Two fixations after the words, the first one beside the target; the last word has none."""
    trial = make_trial([(1, 2), (9, 9), (5, 5), (440, 250)], [-9, 60, 950, 999])
    made = _targets([trial], replace(ART, num_slots=3), target_inputs)
    tokens, places = made.classes, made.positions
    assert tokens.tolist() == [
        [FIXATION, EMPTY, -1], [FIXATION, EMPTY, -1], [EMPTY, -1, -1], [EMPTY, -1, -1], [FIXATION, FIXATION, EMPTY],
    ]  # fmt: skip
    assert places[0, 0].tolist() == [1, 2] and places[4, 1].tolist() == [440, 250]
    made = _targets([trial], replace(SCANVLA, num_slots=3), target_inputs)
    tokens, places = made.classes, made.positions
    assert tokens[4].tolist() == [FIXATION, EMPTY, -1] and places[4, 0].tolist() == [440, 250]
    early = make_trial([(1, 2)], [-9])
    first = [int(_targets([early], config, target_inputs).classes[1, 0]) for config in (ART, SCANVLA)]
    assert first == [STOP, EMPTY]


def test_every_cell_is_seen() -> None:
    """Nothing is averaged away before it is read: each cell of each map can move what is predicted."""
    trial = make_trial([(250, 160), (300, 200)], [-9, 60])
    heard = target_inputs(trial)
    belief = heard.belief.clone().requires_grad_()
    baseline = SlotBaseline(SMALL[0], read_case=lambda _: replace(heard, belief=belief))
    logits, place, _ = baseline.decoder(_stack([_inputs(trial, [], baseline.read_case(trial))]))
    (logits.sum() + place.sum()).backward()
    assert belief.grad is not None and (belief.grad[0] != 0).all() and not belief.grad[1:].any()


def test_names_say_that_they_are_not_the_published_ones() -> None:
    assert (ART.name.split(",")[0], SCANVLA.name.split(",")[0]) == ("ART-style", "ScanVLA-style")


def test_the_map_of_the_target() -> None:
    """A box of exactly one cell of 16 x 16 px, and half of the next; the cells are those of our own decoder."""
    cells = (
        target_inputs(make_trial([], [], target=(64.0, 128.0, 88.0, 144.0)))
        .belief[0, 0]
        .reshape(DecoderConfig().grid.shape)
    )
    assert cells.shape == (20, 32) and cells[8, 4] == 1 and cells[8, 5] == 0.5 and cells.sum() == 1.5
    assert torch.isfinite(target_inputs(make_trial([], [], target=(500.0, 300.0, 512.0, 320.0))).belief).all()


@pytest.mark.slow
def test_they_learn_to_find_the_target() -> None:
    crowd = make_crowd(20, 3)
    case = make_trial([], [], case="new", photo="new", target=(60, 200, 140, 260))
    for config in (ART, SCANVLA):
        baseline = SlotBaseline(replace(config, width=32, steps=300))
        before = np.mean([baseline.log_density(trial).mean() for trial in crowd])
        baseline.fit(crowd)
        assert np.mean([baseline.log_density(trial).mean() for trial in crowd]) > before + 1
        ends = np.array([path.points[-1] for path in baseline.sample(case, 5, seed=0)])
        assert np.linalg.norm(ends - [100, 230], axis=1).mean() < 80
