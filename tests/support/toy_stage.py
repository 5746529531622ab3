"""A small real stage for the tests of the loop: a network with dropout learns a noisy function of two numbers."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sa2va.training.logger import RunLogger
from sa2va.training.stage import StageConfig
from sa2va.training.trainer import run_stage


@dataclass(frozen=True)
class ToyBatches:
    """Batches of points in the square; `fail_at` raises, `poison_from` makes the targets infinite."""

    batch_size: int
    fail_at: int = -1
    poison_from: int = 10**9

    def __call__(self, step: int) -> dict[str, torch.Tensor]:
        if step == self.fail_at:
            raise ValueError(f"no points for {step}")
        points = np.random.uniform(-1, 1, size=(self.batch_size, 2)).astype(np.float32)
        targets = points[:, :1] * points[:, 1:] * (np.inf if step >= self.poison_from else 1)
        return {"points": torch.from_numpy(points), "targets": torch.from_numpy(targets)}


class ToyStage:
    """Regression of x * y; embeddings, a norm and a tied matrix make the parameters look like a real model's."""

    def __init__(self, config: StageConfig, **batches: int) -> None:
        torch.manual_seed(0)
        self.config = config
        self.batch = ToyBatches(config.batch_size, **batches)
        self.net = nn.Sequential(nn.Linear(2, 32), nn.GELU(), nn.LayerNorm(32), nn.Dropout(0.1), nn.Linear(32, 1))
        self.validated: list[int] = []

    def module(self) -> nn.Module:
        return self.net

    def parameters(self):
        return self.net.parameters()

    def losses(self, batch):
        total = (self.net(batch["points"]) - batch["targets"]).square().mean()
        return {"total": total, "half": total / 2}

    def validate(self, step: int):
        assert not self.net.training
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
    return StageConfig(**{**settings, **changes})


def run_toy(stage: ToyStage, folder) -> None:
    """Train quietly on the CPU."""
    with RunLogger(folder, quiet=True, tensorboard=False) as logger:
        run_stage(stage, folder, "cpu", logger)


if __name__ == "__main__":
    # a run for the tests to kill: folder, seconds to wait per step, number of workers
    import time

    torch.set_num_threads(1)
    slow = ToyStage(toy_config(num_workers=int(sys.argv[3])))
    quick_losses = slow.losses

    def slow_losses(batch):
        time.sleep(float(sys.argv[2]))
        return quick_losses(batch)

    slow.losses = slow_losses
    with RunLogger(sys.argv[1], tensorboard=False, line_every_s=0) as run_logger:
        run_stage(slow, sys.argv[1], "cpu", run_logger)
