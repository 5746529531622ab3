"""Check the statistics of a gaze dataset: `sa2va data check refcoco_gaze refcocogaze_val_correct.json`.

Flow: name, file -> gaze/catalog.py -> trials -> gaze/statistics.py -> comparison with known figures (data/check.py).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sa2va.data.check import Check, compare

if TYPE_CHECKING:
    from sa2va.gaze.trial import Trial


def check(name: str, path: Path | None, seed: int, limit: int) -> Check:
    """Compare the statistics of recorded or simulated gaze with known figures.

    Args:
        name: a key of gaze.catalog.DATASETS.
        path: file of the fixations or its folder; None for simulated gaze.
        seed: random seed of simulated gaze.
        limit: number of expressions of simulated gaze, ten observers each.
    """
    trials = read_trials(name, path, seed, limit)
    from sa2va.gaze.statistics import EXPECTED, ORIGINS, describe, held_out_half

    rows = compare(describe(held_out_half(name, trials)), EXPECTED[name])
    return Check(figures=describe(trials), rows=rows, origin=ORIGINS[name])


def read_trials(name: str, path: Path | None, seed: int, limit: int) -> "list[Trial]":
    """Read the trials of a recorded dataset, or generate those of a simulated one.

    Raises:
        ValueError: an extra is not installed, the path is missing or superfluous, or the file is not of this dataset.
    """
    try:
        from sa2va.gaze.catalog import DATASETS, FILES
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sa2va"):
            raise
        raise ValueError(f"gaze needs {error.name}; run: pip install 'sa2va[gaze]'") from error
    from sa2va.gaze.datasets.records import find_file

    if name in FILES:
        if path is None:
            raise ValueError(f"{name} is read from a file; add its path, as in sa2va data check {name} {FILES[name]}")
        return DATASETS[name](find_file(path, FILES[name]))
    if path is not None:
        raise ValueError(f"{path}: {name} is simulated and needs no file; leave the path out")
    return DATASETS[name](seed=seed, num_cases=limit)
