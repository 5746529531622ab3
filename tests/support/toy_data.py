"""Data of the toy stage, apart from it so that a worker process starts without the model libraries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sa2va.training.stage import Key


@dataclass(frozen=True)
class ToyBatch:
    """Points in the square; some rows also have a mark, which is a part of the network of its own to learn."""

    points: Tensor  # (B, 2)
    targets: Tensor  # (B, 1)
    marked: Tensor  # (B,) bool
    parts: frozenset[str]

    @property
    def counts(self) -> dict[str, int]:
        return {"rows": len(self.points), "marked": int(self.marked.sum())}

    def with_parts(self, parts: frozenset[str]) -> Self:
        return replace(self, parts=parts)


@dataclass(frozen=True)
class ToyData:
    """`fail_at` raises, `poison_from` makes the targets infinite, `mark_every` marks the first row of some steps."""

    batch_size: int
    fail_at: int = -1
    poison_from: int = 10**9
    mark_every: int = 10**9

    def keys(self, step: int) -> list[Key]:
        return [(step, row) for row in range(self.batch_size)]

    def __getitem__(self, key: Key) -> tuple[np.ndarray, float, bool]:
        step, row = int(key[0]), int(key[1])
        if step == self.fail_at:
            raise ValueError(f"no points for {step}")
        point = np.random.uniform(-1, 1, size=2).astype(np.float32)
        target = point[0] * point[1] * (np.inf if step >= self.poison_from else 1)
        return point, float(target), row == 0 and (step + 1) % self.mark_every == 0

    def collate(self, items: Sequence[tuple[np.ndarray, float, bool]]) -> ToyBatch:
        points, targets, marked = zip(*items, strict=True)
        parts = frozenset({"marks"} if any(marked) else ())
        return ToyBatch(
            torch.from_numpy(np.stack(points)), torch.tensor(targets)[:, None], torch.tensor(marked), parts
        )  # fmt: skip

    def __len__(self) -> int:
        return 10**6
