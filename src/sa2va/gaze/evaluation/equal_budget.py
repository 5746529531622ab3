"""Train our decoder and the reimplemented ones with an equal budget: scanpaths, steps and learning rates tried.

Flow: a store of training expressions, their trials -> fit_slots, fit_events -> baselines of evaluation/simulated.py.
Shapes: P packs, M cells of the canvas, W width of the language model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from sa2va.gaze.baselines.slots import GRID, CaseInputs, SlotBaseline, SlotConfig
from sa2va.gaze.evaluation.fits import Fits, Learned
from sa2va.gaze.model.decoder import DecoderConfig, EventDecoder
from sa2va.gaze.model.grounding import canvas_maps
from sa2va.gaze.model.scene_maps import stack_history
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.training.store import Store
from sa2va.gaze.training.stored import StoredStage
from sa2va.gaze.trial import Trial
from sa2va.training.stage import StageConfig
from sa2va.training.trainer import fit_stage

RATES = (7e-4, 2e-3, 5e-3)  # learning rates tried
PACKS = 7  # per typical scanpath
KEPT_BACK = 1 / 6  # held-out share of the expressions, for choosing the learning rate
NO_CACHE = Fits(None)
SPREADS = "spreads"
THIS_FILE = "gaze/evaluation/equal_budget.py"
SLOT_CODE = ("gaze/baselines", THIS_FILE, "gaze/training/simulated.py", "gaze/model/grounding.py")
EVENT_CODE = ("gaze/model", "gaze/training", THIS_FILE, "training/trainer.py")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The training budget of each decoder."""

    steps: int = 400
    batch: int = 16  # scanpaths per step
    rates: Sequence[float] = RATES


def slot_inputs(store: Store) -> Callable[[Trial], CaseInputs]:
    """Build a reader of the decoders' inputs: belief maps, states, image features on the same cells as ours."""

    @lru_cache(maxsize=1)  # trials arrive case by case
    def read(index: int) -> CaseInputs:
        known = store.grounding(torch.tensor([index]), "model")
        assert known.states is not None and known.coarse is not None and known.fine is not None
        picture = [canvas_maps(features, known.image_size, GRID) for features in (known.coarse, known.fine)]
        belief = F.adaptive_avg_pool2d(stack_history(known.beliefs)[0], GRID.shape)  # identity for cells of equal size
        return CaseInputs(belief.flatten(2), known.states[0], torch.cat(picture, 1)[0].flatten(1).T.contiguous())

    return lambda case: read(store.find(case.case))


def num_parameters(module: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def fit_slots(
    config: SlotConfig, store: Store, trials: Sequence[Trial], budget: Budget, fits: Fits = NO_CACHE
) -> SlotBaseline:
    """Train a reimplemented decoder at each learning rate and choose the best on held-out expressions."""
    assert store.heard is not None
    channels = sum(store.heard[features].shape[1] for features in ("coarse", "fine"))
    widths = {"state_width": store.heard["states"].shape[-1], "image_channels": channels}
    config = replace(config, steps=budget.steps, batch=budget.batch * PACKS, **widths)
    tried = []
    for rate in budget.rates:
        baseline = SlotBaseline(replace(config, rate=rate), read_case=slot_inputs(store))

        def learn(baseline: SlotBaseline = baseline) -> Learned:
            baseline.fit(trials)
            return baseline.decoder.state_dict() | {SPREADS: torch.from_numpy(baseline.spreads)}, {
                "kept": baseline.kept
            }

        tensors, facts = fits.kept(config.name.split()[0].strip(","), baseline.config, SLOT_CODE, learn)
        baseline.spreads, baseline.kept = tensors.pop(SPREADS).numpy(), facts["kept"]
        baseline.decoder.load_state_dict(tensors)
        tried.append(baseline)
    return max(tried, key=lambda baseline: baseline.kept)


class Fitted:
    """A trained baseline that reads its inputs from the store it is scored on."""

    def __init__(self, baseline: SlotBaseline, store: Store) -> None:
        self.name, self._rival = baseline.name, baseline
        baseline.read_case = slot_inputs(store)

    def fit(self, trials: Sequence[Trial]) -> None:
        """Do nothing: the baseline is already trained."""

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        return self._rival.sample(case, num_samples, seed)

    def log_density(self, trial: Trial) -> NDArray[np.float64]:
        return self._rival.log_density(trial)

    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64]:
        return self._rival.pack_size_log_prob(trial)


def fit_events(
    config: DecoderConfig, store: Store, budget: Budget, fits: Fits = NO_CACHE, *, seed: int = 0
) -> EventDecoder:
    """Train our decoder at each learning rate and choose the best on held-out expressions."""
    assert store.heard is not None
    widths = {"state_width": store.heard["states"].shape[-1], "image_channels": store.heard["coarse"].shape[1]}
    config = replace(config, **widths)
    tried: list[tuple[float, EventDecoder]] = []
    for rate in budget.rates:

        def learn(rate: float = rate) -> Learned:
            decoder, bits = _fit_events(config, store, budget, rate, seed)
            return decoder.state_dict(), {"bits": bits}

        tensors, facts = fits.kept("events", (config, budget, rate, seed), EVENT_CODE, learn)
        decoder = EventDecoder(config)
        decoder.load_state_dict(tensors)
        tried.append((facts["bits"], decoder.eval()))
    return max(tried, key=lambda pair: pair[0])[1]


def _fit_events(
    config: DecoderConfig, store: Store, budget: Budget, rate: float, seed: int
) -> tuple[EventDecoder, float]:
    """Train at one learning rate; return the decoder and its bits on held-out expressions."""
    torch.manual_seed(seed)
    stage = StoredStage(
        StageConfig(
            name="equal", steps=budget.steps, batch_size=budget.batch, lr=rate, warmup_steps=20, autocast=False,
            save_every=0, num_workers=0, ema=0.98, seed=seed,
        ),
        EventDecoder(config),
        store,
        num_people=store.config.num_people,
        kept_back=KEPT_BACK,
    )  # fmt: skip
    fit_stage(stage)
    stage.decoder.eval()
    figures = stage.validate(budget.steps)
    return stage.decoder, figures["bits"] if figures else 0.0
