"""What holds for whatever can be fitted: a second fit replaces the first; generators of the process are left alone."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sa2va.world")
from gaze.support.trials import make_crowd, make_trial

from sa2va.gaze.baselines.base import Baseline
from sa2va.gaze.baselines.event_decoder import EventBaseline
from sa2va.gaze.baselines.image_blind import (
    CenterBaseline,
    OtherImageBaseline,
    RandomBaseline,
    SaccadeWalk,
    StraightLine,
)
from sa2va.gaze.baselines.mixture import references
from sa2va.gaze.baselines.slots import ART, SCANVLA, SlotBaseline, SlotConfig
from sa2va.gaze.model.decoder import DecoderConfig
from sa2va.gaze.training.recorded import RecordedConfig
from sa2va.training.stage import StageConfig

QUICK = RecordedConfig(
    decoder=DecoderConfig(width=16, num_layers=1, place_width=8, cell=32, num_observers=2),
    stage=StageConfig(name="recorded", steps=3, batch_size=8, lr=3e-3, autocast=False, save_every=0, num_workers=0),
)


def _slots(config: SlotConfig) -> Baseline:
    return SlotBaseline(replace(config, steps=3, width=16, num_layers=1, batch=8))


MAKERS: dict[str, Callable[[], Baseline]] = {
    "random": RandomBaseline,
    "center": CenterBaseline,
    "line": StraightLine,
    "elsewhere": OtherImageBaseline,
    "walk": SaccadeWalk,
    "art": lambda: _slots(ART),
    "scanvla": lambda: _slots(SCANVLA),
    "events": lambda: EventBaseline(config=QUICK),
} | {row.name: lambda place=place: references()[place] for place, row in enumerate(references())}


@pytest.mark.parametrize("name", MAKERS)
def test_a_second_fit_replaces_the_first(name: str) -> None:
    """Nothing of what was learned before is left, not even of kinds of moments that the new people lack."""
    first, second = make_crowd(4, 3, seed=1), make_crowd(4, 3, seed=2)
    brief = [t for t in second if t.case < "2"] + [
        make_trial([(250, 150)], [-100.0], case=str(case), photo=f"p{case}") for case in (7, 8)
    ]
    case = make_trial([], [], case="new", photo="new")
    for people in (second, brief, first):
        once, again = MAKERS[name](), MAKERS[name]()
        once.fit(people)
        again.fit(first)
        again.fit(people)
        assert again.sample(case, 3, seed=5) == once.sample(case, 3, seed=5)
        for said in ("log_density", "pack_size_log_prob"):
            ours, theirs = (getattr(baseline, said)(second[0]) for baseline in (again, once))
            assert (ours is None and theirs is None) or np.array_equal(ours, theirs)


def _generators() -> list[Any]:
    kind, keys, *rest = np.random.get_state()
    return [random.getstate(), kind, keys.tolist(), rest, torch.random.get_rng_state().tolist()]


@pytest.mark.parametrize("name", MAKERS)
def test_the_generators_of_the_process_are_left_alone(name: str) -> None:
    crowd = make_crowd(4, 2)
    before = _generators()
    baseline = MAKERS[name]()
    assert _generators() == before
    baseline.fit(crowd)
    assert _generators() == before
    baseline.sample(make_trial([], [], case="new", photo="new"), 2, seed=3)
    baseline.log_density(crowd[0])
    assert _generators() == before
