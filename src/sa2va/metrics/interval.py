"""Say how sure a figure is: bootstrap intervals over items.

Flow: one row per item, a statistic of rows -> bootstrap_interval -> (low, high).
Source: Efron, 1979 (percentile bootstrap).
Shapes: N items, R resamples.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any] | Sequence[Any]  # one per item


def bootstrap_interval(
    values: Rows,
    statistic: Callable[[Any], float] = np.mean,
    seed: int = 0,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> tuple[float, float]:
    """Percentile interval of a statistic when items are drawn again with replacement.

    Everything that belongs to one item is resampled together, so several questions about one picture do not
    pass for independent evidence. The interval always holds the estimate itself: resampled calibration
    errors lean upwards and would otherwise leave it out.

    Args:
        values: N rows, one per item; an array (N, ...) or a sequence.
        statistic: rows -> number.
        seed: of the resampling.
        level: share of resamples inside.
        num_resamples: R.

    Returns:
        (low, high).

    Raises:
        ValueError: no items, or a level outside 0..1.
    """
    if not len(values):
        raise ValueError("an interval needs at least one item, got none")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    rng = np.random.default_rng(seed)
    resampled = np.empty(num_resamples)
    for turn in range(num_resamples):
        drawn = rng.integers(0, len(values), len(values))
        resampled[turn] = statistic(values[drawn] if isinstance(values, np.ndarray) else [values[i] for i in drawn])
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    estimate = float(statistic(values))
    return min(float(low), estimate), max(float(high), estimate)
