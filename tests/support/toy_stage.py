"""A small real stage for the tests of the trainer: a network learns a noisy function of two numbers.

As a program it trains one in a process of its own: `toy_stage.py FOLDER name=value`.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program it knows its own folder only
from support.toy_data import ToyBatch, ToyData

from sa2va.model.losses import LossTerm
from sa2va.training.logger import RunLogger
from sa2va.training.stage import StageConfig
from sa2va.training.trainer import run_stage


class ToyModule(nn.Module):
    """A network with dropout and a head that only marked rows use."""

    def __init__(self, dropout: float, wait_s: float = 0.0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.GELU(), nn.LayerNorm(32), nn.Dropout(dropout))
        self.fit, self.mark = nn.Linear(32, 1), nn.Linear(32, 1)
        self.wait_s = wait_s

    def forward(self, batch: ToyBatch) -> dict[str, LossTerm]:
        time.sleep(self.wait_s)
        features = self.net(batch.points)
        terms = {"fit": LossTerm.of((self.fit(features) - batch.targets).square())}
        if "marks" in batch.parts:
            rows = features[batch.marked]
            dummy = self.mark(features[:1]).sum() * 0
            terms["mark"] = LossTerm(self.mark(rows).sub(1).square().sum() + dummy, float(len(rows)), 0.5)
        return terms

    def count_rows(self, batch: ToyBatch) -> dict[str, float]:
        return {"fit": float(len(batch.points)), "mark": float(batch.marked.sum())}


@dataclass(frozen=True, kw_only=True)
class ToyConfig(StageConfig):
    """A config with a nested tuple, which a saved state holds as lists."""

    spans: tuple[tuple[int, float], ...] = ((3, 1.5), (9, 0.5))


class ToyStage:
    """Regression of x * y."""

    def __init__(self, config: StageConfig, *, dropout: float = 0.1, wait_s: float = 0.0, **data: int) -> None:
        torch.manual_seed(0)
        self.config = config
        self.data = ToyData(config.batch_size, **data)
        self.module = ToyModule(dropout, wait_s)
        self.validated: list[int] = []

    def parameters(self):
        return self.module.parameters()

    def validate(self, step: int):
        assert not self.module.training
        self.validated.append(step)
        return {"error": 1.0}


def toy_config(**changes) -> StageConfig:
    """Return the config the tests share: short, exact (no autocast), every step logged."""
    settings: dict[str, Any] = {
        "name": "toy",
        "steps": 12,
        "batch_size": 16,
        "lr": 1e-2,
        "warmup_steps": 2,
        "save_every": 5,
        "log_every": 1,
        "autocast": False,
        "ema": 0.9,
        "seed": 3,
        "num_workers": 0,
    }
    return ToyConfig(**{**settings, **changes})


def run_toy(stage: ToyStage, folder) -> None:
    """Train quietly on the CPU."""
    with RunLogger(folder, quiet=True, tensorboard=False) as logger:
        run_stage(stage, folder, "cpu", logger)


def main() -> None:
    """Train a stage from the command line."""
    options = {name: float(value) for name, _, value in (word.partition("=") for word in sys.argv[2:])}
    torch.set_num_threads(1)
    stage = ToyStage(
        toy_config(num_workers=int(options.pop("num_workers", 0))),
        dropout=options.pop("dropout", 0.1),
        wait_s=options.pop("wait_s", 0.0),
        **{name: int(value) for name, value in options.items()},
    )
    with RunLogger(sys.argv[1], tensorboard=False, line_every_s=0) as logger:
        run_stage(stage, sys.argv[1], "cpu", logger)


if __name__ == "__main__":
    main()
