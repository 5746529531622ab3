"""Average the loss terms of the steps between two lines of the log.

Flow: trainer.py -> Meter.add per step -> Meter.means per line.
"""

import torch
from torch import Tensor


class Meter:
    """Running sums of loss terms since the last log line. They are saved, so a resumed run logs the same lines."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor, count: Tensor) -> None:
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.counts[name] = self.counts[name] + count if name in self.counts else count

    def means(self) -> dict[str, float]:
        """Return the mean of each term that has rows."""
        return {name: (self.sums[name] / count).item() for name, count in self.counts.items() if count > 0}

    def to_json(self) -> dict[str, dict[str, float]]:
        return {name: {key: value.item() for key, value in vars(self)[name].items()} for name in ("sums", "counts")}

    def from_json(self, record: dict[str, dict[str, float]], device: torch.device) -> None:
        for name in ("sums", "counts"):
            vars(self)[name] = {key: torch.tensor(value, device=device) for key, value in record[name].items()}
