"""Read the finished runs and compute what the tables show: mean and spread over seeds, paired differences, chance.

Flow: runs.jsonl -> read_runs -> Results -> page.py, plots.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sa2va.journal import Journal
from sa2va.world.ablations.runs import RUNS

SHARED = ("start", "steps", "batch_size", "lr", "items")  # by which runs of one table must agree

FIELDS = {"arm", "seed", "figures", "chance", "train_s", "commit", *SHARED}


class Spread(NamedTuple):
    """Mean over seeds and its sample standard deviation, NaN of one seed."""

    mean: float
    deviation: float
    num_seeds: int


@dataclass(frozen=True)
class Results:
    """Lines of runs.jsonl.

    Attributes:
        rows: one per run, with the same settings.
    """

    rows: tuple[dict[str, Any], ...]

    def figures(self, arm: str, column: str) -> dict[int, float]:
        """Return a column of an arm by seed, in increasing order."""
        found = {row["seed"]: row["figures"].get(column) for row in self.rows if row["arm"] == arm}
        return {seed: value for seed, value in sorted(found.items()) if value is not None}

    def seeds(self, arm: str) -> list[int]:
        return sorted(row["seed"] for row in self.rows if row["arm"] == arm)

    def spread(self, arm: str, column: str) -> Spread | None:
        """Return the mean of a column of an arm; None without runs."""
        return _spread(list(self.figures(arm, column).values()))

    def difference(self, arm: str, base: str, column: str) -> Spread | None:
        """Return the mean difference of an arm to a base over the seeds that both have; None without any."""
        ours, theirs = self.figures(arm, column), self.figures(base, column)
        return _spread([ours[seed] - theirs[seed] for seed in ours if seed in theirs])

    def chance(self, column: str) -> float | None:
        """Return the chance baseline of a column, the same of all runs; None if the benchmark has none."""
        found = [row["chance"][column] for row in self.rows if column in row["chance"]]
        return float(np.mean(found)) if found else None


def read_runs(folder: Path) -> Results:
    """Read the finished runs of a folder.

    Raises:
        ValueError: there are none, they are damaged, or they were made with different settings.
    """
    path = folder / RUNS
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run sa2va ablate cotraining -o {folder} first")
    with Journal(path) as journal:
        rows = tuple(record for _, record in journal.items())
    if bad := [row for row in rows if not isinstance(row, dict) or FIELDS - row.keys()]:
        raise ValueError(f"{path}: expected {', '.join(sorted(FIELDS))}, got {bad[0]!r:.60}; delete the line")
    for name in SHARED:
        values = sorted({str(row[name]) for row in rows if name != "steps" or row[name]})
        if len(values) > 1:
            raise ValueError(f"{path}: runs with {name} {' and '.join(values)}; give each setting a folder of its own")
    if not rows:
        raise ValueError(f"{path}: has no finished run; run the same command to the end")
    names = [f"{row['arm']}-{row['seed']}" for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: two runs of {twice[0]}, with other data; give each data root a folder of its own")
    return Results(rows)


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan, len(values))
