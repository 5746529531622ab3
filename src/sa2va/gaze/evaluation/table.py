"""Put systems, people and references into one table of scanpath figures.

Flow: trials on the canvas -> folds by picture -> rivals learn on the others and are scored on what was kept back;
    files of predictions and people themselves join -> Rows.
Source: figures as in gaze/metrics/; bits are above the uniform density of the canvas, people's fixations pooled.
Shapes: K fixations, N words.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.evaluation.predictions import Packs
from sa2va.gaze.evaluation.scores import Case, Figures, sampled_size_nll, score_people, score_samples
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics import motion
from sa2va.gaze.metrics.likelihood import bits_per_fixation, uniform_log_density
from sa2va.gaze.rivals.base import Rival
from sa2va.gaze.trial import Trial, group_cases, split_folds

REFERENCE = "previous fixation + target box"  # of the column that says how far above it a system is


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system."""

    name: str
    kind: str  # "people", "predictions" or "rival"
    num_cases: int
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One figure of the printed table."""

    title: str
    key: str
    style: str = ".3f"


COLUMNS = (
    Column("SS", "SS"),
    Column("SS pack", "SS_pack"),
    Column("FED", "FED", ".2f"),
    Column("FED pack", "FED_pack", ".2f"),
    Column("CC", "CC"),
    Column("NSS", "NSS", ".2f"),
    Column("last hit", "last hit"),
    Column("any hit", "any hit"),
    Column("empty packs", "empty packs"),
    Column("size NLL", "size NLL"),
    Column("size MAE", "size MAE", ".2f"),
    Column("saccade px", "saccade median", ".1f"),
    Column("EMD px", "saccade EMD", ".1f"),
    Column("KL px", "saccade KL"),
    Column("EMD ms", "duration EMD", ".0f"),
    Column("curve", "hit curve gap"),
    Column("self SS", "self SS"),
    Column("bits", "bits", ".2f"),
    Column("above ref", "bits above the reference", "+.2f"),
)


def people_row(cases: Sequence[Case]) -> Row:
    """Everybody as a prediction for the others of the same case."""
    figures = score_people(cases)
    return Row(name="people, one left out", kind="people", num_cases=len(cases), figures=figures)


def prediction_row(name: str, cases: Sequence[Case], samples: Mapping[str, Sequence[Packs]]) -> Row:
    """A file of predictions, scored on the cases that it has.

    Raises:
        ValueError: it has none of them.
    """
    known = [case for case in cases if case.name in samples]
    if not known:
        raise ValueError(f"{name}: none of its REF_ID is in the data, expected those of {cases[0].name} and the others")
    figures = score_samples(known, samples) | {"size NLL": sampled_size_nll(known, samples)}
    return Row(name=name, kind="predictions", num_cases=len(known), figures=figures)


def rival_row(
    make: Callable[[], Rival],
    cases: Sequence[Case],
    folds: Sequence[tuple[Sequence[Trial], Sequence[Trial]]],
    *,
    num_samples: int,
    seed: int,
    timed: bool = False,
) -> Row:
    """Let a rival learn on each fold and score it on what was kept back.

    Args:
        make: gives a new rival, one per fold.
        cases: all of them, on the canvas.
        folds: trials to learn from, trials to score.
        num_samples: scanpaths per case.
        seed: of the samples; every case has a stream of its own.
        timed: its fixations have times of their own, which are compared with people's.
    """
    samples: dict[str, list[Packs]] = {}
    densities: list[tuple[Trial, NDArray[np.float64] | None, NDArray[np.float64] | None]] = []
    name, times = "", []
    for learned, scored in folds:
        rival = make()
        name = rival.name
        rival.fit(learned)
        for case, trials in group_cases(scored).items():
            drawn = rival.sample(trials[0], num_samples, crc32(f"{seed}/{case}".encode()))
            samples[case] = [path.pack_points for path in drawn]
            times += [path.durations for path in drawn]
            for trial, density in zip(trials, densities_of(rival, trials), strict=True):
                densities.append((trial, density, rival.pack_size_log_prob(trial)))
    figures = score_samples(cases, samples) | likelihood_figures(densities)
    if math.isnan(figures.get("size NLL", math.nan)):
        figures["size NLL"] = sampled_size_nll(cases, samples)
    if timed:
        own = np.concatenate([trial.scanpath.durations for case in cases for trial in case.trials])
        figures["duration EMD"] = motion.earth_mover(own, np.concatenate(times))
        figures["duration KL"] = motion.kl_divergence(own, np.concatenate(times), motion.DURATION_EDGES)
    return Row(name=name, kind="rival", num_cases=len(cases), figures=figures)


def densities_of(rival: Rival, trials: Sequence[Trial]) -> Sequence[NDArray[np.float64] | None]:
    """Log densities of all people of one case, at once where a rival can."""
    together = getattr(rival, "log_densities", None)
    return together(trials) if together is not None else [rival.log_density(trial) for trial in trials]


def likelihood_figures(
    densities: Iterable[tuple[Trial, NDArray[np.float64] | None, NDArray[np.float64] | None]],
) -> Figures:
    """Bits per fixation, of all packs and by the kind of pack, and the likelihood of word packs' sizes.

    Args:
        densities: a trial, (K,) log density of its fixations or None, (N + 2,) log probability of its sizes or None.
    """
    places: dict[str, list[NDArray[np.float64]]] = {"before": [], "words": [], "after": []}
    sizes: list[NDArray[np.float64]] = []
    for trial, density, size in densities:
        if density is not None:
            ends = np.cumsum(trial.scanpath.sizes)
            before, words, after = np.split(np.asarray(density, float), [ends[0], ends[-2]])
            for name, piece in zip(places, (before, words, after), strict=True):
                places[name].append(piece)
        if size is not None:
            sizes.append(size[1:-1])
    figures: Figures = {}
    pieces = {name: np.concatenate(rows) for name, rows in places.items() if rows}
    for name, row in {"": np.concatenate(list(pieces.values())) if pieces else np.zeros(0), **pieces}.items():
        if row.size:
            figures[f"bits {name}".strip()] = bits_per_fixation(row, uniform_log_density(row.size, *CANVAS))
    if sizes and (joined := np.concatenate(sizes)).size:
        figures["size NLL"] = float(-joined.mean())
    return figures


def finish_rows(rows: Sequence[Row]) -> list[Row]:
    """Add to each row how many bits it lies above the reference, if that is among them."""
    known = {row.name: row.figures["bits"] for row in rows if "bits" in row.figures}
    if REFERENCE in known:
        for row in rows:
            if row.name in known:
                row.figures["bits above the reference"] = known[row.name] - known[REFERENCE]
    return list(rows)


def as_record(rows: Sequence[Row], cases: Sequence[Case], **settings: Any) -> dict[str, Any]:
    """What `--json` prints: every figure of every row, and the clusters that decide the scale of SS and FED."""
    clusters = {
        case.name: {"bandwidth": case.clusters.bandwidth, "centers": case.clusters.centers.round(3).tolist()}
        for case in cases
    }
    table = [
        {
            "name": row.name,
            "kind": row.kind,
            "cases": row.num_cases,
            "figures": {key: value if math.isfinite(value) else None for key, value in row.figures.items()},
        }
        for row in rows
    ]
    return {**settings, "rows": table, "clusters": clusters}


def folds_of(trials: Sequence[Trial], num_folds: int) -> list[tuple[list[Trial], list[Trial]]]:
    """Folds by picture; fewer than asked for where there are few pictures.

    Raises:
        ValueError: all trials are of one picture, so that nothing can be learned from another one.
    """
    num_pictures = len({trial.picture for trial in trials})
    if num_pictures < 2:
        raise ValueError("all scanpaths are of one picture; baselines learn on others, expected at least two")
    return split_folds(trials, min(num_folds, num_pictures))
