"""Build one table of scanpath metrics for systems, people and reference baselines.

Flow: trials on the canvas -> cross-validation folds by image -> baselines are trained and scored; files of predictions
    and the people themselves are added -> Rows -> finish_rows: intervals and paired tests against our row.
Source: figures as in gaze/metrics/; bits are above the uniform density of the canvas, pooled over people's fixations.
Shapes: K fixations, N words.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.baselines.base import Baseline
from sa2va.gaze.baselines.mixture import references
from sa2va.gaze.evaluation.cases import Case
from sa2va.gaze.evaluation.pooled import differences, likelihoods
from sa2va.gaze.evaluation.predictions import Packs
from sa2va.gaze.evaluation.scores import EVERY_CORE, Figures, score_people, score_samples
from sa2va.gaze.evaluation.tally import Measured, minus
from sa2va.gaze.metrics import motion
from sa2va.gaze.trial import Trial, group_cases, split_folds
from sa2va.metrics.interval import Difference

ABOVE = "bits above the reference"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one system."""

    name: str
    kind: str  # "people", "predictions" or "baseline"
    num_cases: int
    figures: Figures = field(default_factory=dict)
    measured: Measured | None = None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # 95 %, by figure
    ours_less: dict[str, Difference] = field(default_factory=dict)  # our row minus this one, by figure


@dataclass(frozen=True)
class Column:
    """One column of the printed table."""

    title: str
    key: str
    style: str = ".3f"
    tested: bool = False  # printed with intervals and paired tests


COLUMNS = (
    Column("bits", "bits", ".2f", tested=True),
    Column("in picture", "bits above the picture", ".2f"),
    Column("above ref", ABOVE, "+.2f"),
    Column("SS", "SS", tested=True),
    Column("SS pack", "SS_pack"),
    Column("FED", "FED", ".2f"),
    Column("FED pack", "FED_pack", ".2f"),
    Column("CC", "CC", ".2f"),
    Column("NSS", "NSS", ".2f"),
    Column("last hit", "last hit", tested=True),
    Column("any hit", "any hit"),
    Column("empty", "empty packs", ".2f"),
    Column("size NLL", "size NLL", tested=True),
    Column("size MAE", "size MAE", ".2f"),
    Column("saccade px", "saccade median", ".0f"),
    Column("EMD px", "saccade EMD", ".1f", tested=True),
    Column("KL px", "saccade KL"),
    Column("EMD ms", "duration EMD", ".0f"),
    Column("curve", "hit curve gap", tested=True),
    Column("ECE", "empty ECE"),
    Column("self SS", "self SS"),
)
TESTED = tuple(column for column in COLUMNS if column.tested)


def measured_row(name: str, kind: str, measured: Measured) -> Row:
    return Row(name=name, kind=kind, num_cases=len(measured.cases), figures=measured.figures, measured=measured)


def people_row(cases: Sequence[Case], *, jobs: int = EVERY_CORE) -> Row:
    """Score every person as a prediction for the others of the same case."""
    return measured_row("people, one left out", "people", score_people(cases, jobs=jobs))


def prediction_row(
    name: str, cases: Sequence[Case], samples: Mapping[str, Sequence[Packs]], *, jobs: int = EVERY_CORE
) -> Row:
    """Score a file of predictions on the cases that it contains.

    Raises:
        ValueError: the file contains none of the cases.
    """
    known = [case for case in cases if case.name in samples]
    if not known:
        raise ValueError(
            f"{name}: contains no REF_ID of the data, such as {cases[0].name}; give predictions for the same cases"
        )
    return measured_row(name, "predictions", score_samples(known, samples, jobs=jobs))


def baseline_row(
    make: Callable[[], Baseline],
    cases: Sequence[Case],
    folds: Sequence[tuple[Sequence[Trial], Sequence[Trial]]],
    *,
    num_samples: int,
    seed: int,
    timed: bool = False,
    jobs: int = EVERY_CORE,
) -> Row:
    """Train a baseline on each fold and score it on the held-out trials.

    Args:
        make: Builds a new baseline, once per fold.
        cases: All cases, on the canvas.
        folds: Training and test trials of each fold.
        num_samples: Scanpaths per case.
        seed: Random seed of the samples; every case has its own random stream.
        timed: Compare fixation durations with people's as well.
        jobs: Number of scoring processes; -1 = one per core.
    """
    samples: dict[str, list[Packs]] = {}
    logs: dict[str, list[tuple[Trial, NDArray[np.float64] | None, NDArray[np.float64] | None]]] = {}
    name, times = "", {}
    for learned, scored in folds:
        baseline = make()
        name = baseline.name
        baseline.fit(learned)
        for case, trials in group_cases(scored).items():
            drawn = baseline.sample(trials[0], num_samples, crc32(f"{seed}/{case}".encode()))
            samples[case] = [path.pack_points for path in drawn]
            times[case] = np.concatenate([path.durations for path in drawn])
            densities = densities_of(baseline, trials)
            logs[case] = [
                (trial, density, baseline.pack_size_log_prob(trial))
                for trial, density in zip(trials, densities, strict=True)
            ]
    measured = score_samples(cases, samples, jobs=jobs)
    added = likelihoods([logs[case.name] for case in cases])
    if timed:
        own = [np.concatenate([trial.scanpath.durations for trial in case.trials]) for case in cases]
        added |= differences("duration", own, [times[case.name] for case in cases], motion.DURATION_EDGES)
    return measured_row(name, "baseline", replace(measured, statistics=measured.statistics | added))


def densities_of(baseline: Baseline, trials: Sequence[Trial]) -> Sequence[NDArray[np.float64] | None]:
    """Compute the log densities of all trials of one case, in one pass if the baseline supports it."""
    together = getattr(baseline, "log_densities", None)
    return together(trials) if together is not None else [baseline.log_density(trial) for trial in trials]


def strongest_reference(rows: Sequence[Row]) -> Row | None:
    """Find the reference baseline with the most bits, if there is one."""
    named = {reference.name for reference in references()}
    found = [row for row in rows if row.name in named and math.isfinite(row.figures.get("bits", math.nan))]
    return max(found, key=lambda row: row.figures["bits"], default=None)


def finish_rows(rows: Sequence[Row], *, picture_bits: float | None = None, ours: str = "") -> list[Row]:
    """Add to each row the bits above the reference, intervals, and paired tests against our row.

    Args:
        rows: All rows of a table.
        picture_bits: Bits of a uniform density over the image instead of the canvas, if all images are letterboxed
            alike; None = unknown.
        ours: Name of the row that is tested against each of the others.
    """
    reference = strongest_reference(rows)
    above = [_above(row, reference, picture_bits) for row in rows]
    base = next((row.measured for row in above if row.name == ours), None)
    return [_with_intervals(row, None if row.name == ours else base) for row in above]


def _above(row: Row, reference: Row | None, picture_bits: float | None) -> Row:
    figures, measured = dict(row.figures), row.measured
    if "bits" not in figures:
        return row
    added = {}
    if reference is not None:
        figures[ABOVE] = figures["bits"] - reference.figures["bits"]
        if measured is not None and reference.measured is not None and measured.cases == reference.measured.cases:
            added[ABOVE] = minus(measured.statistics["bits"], reference.measured.statistics["bits"])
    if picture_bits is not None:
        figures["bits above the picture"] = figures["bits"] - picture_bits
        if measured is not None:
            added["bits above the picture"] = minus(measured.statistics["bits"], lambda _: picture_bits)
    if measured is not None:
        measured = replace(measured, statistics=measured.statistics | added)
    return replace(row, figures=figures, measured=measured)


def _with_intervals(row: Row, ours: Measured | None) -> Row:
    if row.measured is None:
        return row
    measured = row.measured
    found = {column.key: measured.interval(column.key) for column in COLUMNS}
    tests = {} if ours is None else {column.key: ours.minus(measured, column.key) for column in TESTED}
    return replace(
        row,
        intervals={key: interval for key, interval in found.items() if interval is not None},
        ours_less={key: test for key, test in tests.items() if test is not None},
    )


def row_record(row: Row) -> dict[str, Any]:
    """Convert a row to a JSON record, with null for nan."""
    return {
        "name": row.name,
        "kind": row.kind,
        "cases": row.num_cases,
        "figures": {key: value if math.isfinite(value) else None for key, value in row.figures.items()},
        "intervals": {key: list(interval) for key, interval in row.intervals.items()},
        "ours_less": {key: test._asdict() for key, test in row.ours_less.items()},
    }


def as_record(rows: Sequence[Row], cases: Sequence[Case], **settings: Any) -> dict[str, Any]:
    """Build the JSON report: every figure of every row, and the clusters that SS and FED depend on."""
    clusters = {
        case.name: {"bandwidth": case.clusters.bandwidth, "centers": case.clusters.centers.round(3).tolist()}
        for case in cases
    }
    return {**settings, "rows": [row_record(row) for row in rows], "clusters": clusters}


def folds_of(trials: Sequence[Trial], num_folds: int) -> list[tuple[list[Trial], list[Trial]]]:
    """Split trials into folds by image, at most one per image.

    Raises:
        ValueError: all trials are of one image.
    """
    num_pictures = len({trial.picture for trial in trials})
    if num_pictures < 2:
        raise ValueError("all scanpaths are of one image; cross-validation needs at least two")
    return split_folds(trials, min(num_folds, num_pictures))
