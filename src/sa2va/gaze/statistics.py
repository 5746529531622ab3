"""Compute descriptive statistics of a gaze dataset and compare them with reference values.

Flow: trials of a file -> describe; trials of images outside the reference half (held_out_half) -> describe
    -> data/check.py compares with EXPECTED[name].
Source: ORIGINS, by dataset. Lengths are px of the canvas of 512 x 320 on which the stimulus is letterboxed.
Shapes: K fixations, N words.
"""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike

from sa2va.data.check import Expected
from sa2va.gaze.letterbox import CANVAS, Letterbox
from sa2va.gaze.metrics.motion import WAITING, amplitudes
from sa2va.gaze.metrics.target import hit_curve, inside_box, last_hit, latency_to_target
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.trial import Trial, group_cases

# Measured on the images of `in_reference_half` alone. Tolerances are 3 SD of the difference between two such halves,
# from a bootstrap of those images.
REFCOCO_GAZE_FIGURES: dict[str, Expected] = {
    "fixations per scanpath": Expected(8.105, 2.2),
    "share before the words": Expected(0.159, 0.041),
    "share during the words": Expected(0.570, 0.069),
    "share after the words": Expected(0.271, 0.099),
    "empty packs before": Expected(0.0, 0.01),  # 0 of 305: the 95 % upper bound is 3 of 305
    "empty packs of words": Expected(0.242, 0.083),
    "single fixations per word": Expected(0.512, 0.080),
    "two fixations per word": Expected(0.220, 0.074),
    "empty packs after": Expected(0.285, 0.17),
    "mean pack after": Expected(2.197, 1.4),
    "on target before": Expected(0.084, 0.19),
    "on target, 3 words left": Expected(0.156, 0.24),
    "on target, 2 words left": Expected(0.255, 0.24),
    "on target, 1 word left": Expected(0.291, 0.22),
    "on target, last word": Expected(0.509, 0.20),
    "on target after": Expected(0.621, 0.19),
    "last fixation on target": Expected(1.0, 0.002),  # only correct trials are published
    "duration median, ms": Expected(222, 18),
    "duration mean, ms": Expected(261, 20),
    "duration, shortest 5 %, ms": Expected(67, 20),
    "duration, longest 5 %, ms": Expected(577, 100),
    "gap median, ms": Expected(45, 3.9),
    "saccade median, px": Expected(55.9, 11),
    "saccade mean, px": Expected(70.0, 9.4),
    "saccade, shortest 25 %, px": Expected(26.1, 5.5),
    "saccade, longest 25 %, px": Expected(94.7, 17),
    "saccade, longest 5 %, px": Expected(184, 37),
    "short saccades": Expected(0.187, 0.054),
    "latency median, ms": Expected(637, 670),
    "target share of the canvas": Expected(0.066, 0.0098),
}

# The simulator was fitted to these: values of all 869 scanpaths of RefCOCO-Gaze's validation split. Agreement is
# therefore no evidence for the simulator.
SIMULATED_FIGURES: dict[str, Expected] = {
    "fixations per scanpath": Expected(8.08, 0.6),
    "share before the words": Expected(0.154, 0.02),
    "share during the words": Expected(0.604, 0.04),
    "share after the words": Expected(0.241, 0.04),
    "empty packs before": Expected(0.006, 0.01),
    "empty packs of words": Expected(0.250, 0.03),
    "single fixations per word": Expected(0.494, 0.05),
    "two fixations per word": Expected(0.230, 0.05),
    "empty packs after": Expected(0.326, 0.06),
    "mean pack after": Expected(1.95, 0.4),
    "on target before": Expected(0.063, 0.03),
    "on target, 3 words left": Expected(0.16, 0.12),
    "on target, 2 words left": Expected(0.24, 0.08),
    "on target, 1 word left": Expected(0.34, 0.08),
    "on target, last word": Expected(0.52, 0.08),
    "on target after": Expected(0.66, 0.05),
    "last fixation on target": Expected(1.0, 0.002),
    "duration median, ms": Expected(221, 12),
    "duration mean, ms": Expected(262, 15),
    "duration, shortest 5 %, ms": Expected(64, 15),
    "duration, longest 5 %, ms": Expected(591, 50),
    "gap median, ms": Expected(44, 5),
    "saccade median, px": Expected(52, 5),
    "saccade mean, px": Expected(68, 6),
    "saccade, shortest 25 %, px": Expected(26, 5),
    "saccade, longest 25 %, px": Expected(93, 9),
    "saccade, longest 5 %, px": Expected(186, 20),
    "short saccades": Expected(0.19, 0.03),
    "latency median, ms": Expected(840, 120),
    "target share of the canvas": Expected(0.066, 0.02),
}

EXPECTED: dict[str, dict[str, Expected]] = {
    "refcoco_gaze": REFCOCO_GAZE_FIGURES,
    "world": SIMULATED_FIGURES,
    "coco_search18": {"people": Expected(10, 0)},
    "osie": {
        "people per case": Expected(15, 0.01),  # published
        "fixations per scanpath": Expected(9.5, 0.9),
        "duration mean, ms": Expected(209, 21),
    },
}
MEASURED_ON_HALF = ("refcoco_gaze", "osie")  # datasets whose reference values come from one half of the images

# Origin of the reference values, printed below the table.
ORIGINS = {
    "refcoco_gaze": "Reference values: 305 scanpaths of one half of the validation photos; checked on the other half.",
    "osie": "Reference values: 15 people from Xu et al., 2014, the rest from 22 images; checked on the other images.",
    "coco_search18": "Reference value: 10 people, from Chen et al., 2021.",
    "world": "The simulator was fitted to these values of RefCOCO-Gaze: agreement is no evidence for it.",
}


def in_reference_half(trial: Trial) -> bool:
    """Tell whether a trial's image belongs to the half that reference values are measured on."""
    return crc32(trial.picture.encode()) % 2 == 0


def held_out_half(name: str, trials: Sequence[Trial]) -> list[Trial]:
    """Keep the trials that a dataset is checked on.

    Raises:
        ValueError: all images belong to the reference half.
    """
    kept = [trial for trial in trials if name not in MEASURED_ON_HALF or not in_reference_half(trial)]
    if trials and not kept:
        raise ValueError(f"{name}: all images belong to the half that the reference values come from; add other images")
    return kept


def describe(trials: Sequence[Trial]) -> dict[str, float]:
    """Compute the statistics of a dataset; those without data (no target, words or onsets) are left out.

    Raises:
        ValueError: no trials.
    """
    if not trials:
        raise ValueError("statistics: no trials, expected at least one")
    figures = _counts(trials) | _packs(trials) | _motion(trials) | _targets(trials)
    return {name: float(value) for name, value in figures.items() if np.isfinite(value)}


def _counts(trials: Sequence[Trial]) -> dict[str, float]:
    cases = group_cases(trials)
    return {
        "scanpaths": len(trials),
        "cases": len(cases),
        "people": len({trial.subject for trial in trials}),
        "people per case": len(trials) / len(cases),
        "fixations per scanpath": _mean([sum(trial.scanpath.sizes) for trial in trials]),
    }


def _packs(trials: Sequence[Trial]) -> dict[str, float]:
    sizes = [trial.scanpath.sizes for trial in trials]
    words = np.array([size for one in sizes for size in one[1:-1]], int)
    if not words.size:
        return {}
    before, after = (np.array([one[place] for one in sizes], int) for place in (0, -1))
    total = max(words.sum() + before.sum() + after.sum(), 1)
    return {
        "share before the words": before.sum() / total,
        "share during the words": words.sum() / total,
        "share after the words": after.sum() / total,
        "empty packs before": (before == 0).mean(),
        "empty packs of words": (words == 0).mean(),
        "single fixations per word": (words == 1).mean(),
        "two fixations per word": (words == 2).mean(),
        "empty packs after": (after == 0).mean(),
        "mean pack after": after.mean(),
    }


def _motion(trials: Sequence[Trial]) -> dict[str, float]:
    paths = [trial.scanpath for trial in trials]
    durations = np.concatenate([path.durations for path in paths])
    gaps = np.concatenate([np.diff(path.starts) - path.durations[:-1] for path in paths])
    saccades = np.concatenate([amplitudes(path.points) * _scale(path) for path in paths])
    return {
        "duration median, ms": _quantile(durations, 0.5),
        "duration mean, ms": _mean(durations),
        "duration, shortest 5 %, ms": _quantile(durations, 0.05),
        "duration, longest 5 %, ms": _quantile(durations, 0.95),
        "gap median, ms": _quantile(gaps, 0.5) if np.any(gaps) else float("nan"),  # all 0: no recorded onsets
        "saccade median, px": _quantile(saccades, 0.5),
        "saccade mean, px": _mean(saccades),
        "saccade, shortest 25 %, px": _quantile(saccades, 0.25),
        "saccade, longest 25 %, px": _quantile(saccades, 0.75),
        "saccade, longest 5 %, px": _quantile(saccades, 0.95),
        "short saccades": _mean(saccades < WAITING),
    }


def _targets(trials: Sequence[Trial]) -> dict[str, float]:
    hits, flat, latencies, areas = [], [], [], []
    for trial in trials:
        if trial.target is None:
            continue
        path, box = trial.scanpath, trial.target
        hits.append([inside_box(pack, box) for pack in path.pack_points])
        flat.append(inside_box(path.points, box))
        areas.append((box[2] - box[0]) * (box[3] - box[1]) * _scale(path) ** 2 / (CANVAS[0] * CANVAS[1]))
        if trial.noun is not None:
            latencies.append(latency_to_target(path.starts, flat[-1], trial.noun[0]))
    if not hits:
        return {}
    curve = hit_curve(hits)
    left = {f"on target, {count} words left": share for count, share in curve.words_left.items() if count > 1}
    return left | {
        "on target before": curve.before,
        "on target, 1 word left": curve.words_left.get(1, float("nan")),
        "on target, last word": curve.words_left.get(0, float("nan")),
        "on target after": curve.after,
        "last fixation on target": _mean([last_hit(flags) for flags in flat]),
        "latency median, ms": _quantile([latency for latency in latencies if np.isfinite(latency)], 0.5),
        "target share of the canvas": _mean(areas),
    }


def _mean(values: ArrayLike) -> float:
    return float(np.mean(np.asarray(values, float))) if np.size(values) else float("nan")


def _quantile(values: ArrayLike, share: float) -> float:
    return float(np.quantile(np.asarray(values, float), share)) if np.size(values) else float("nan")


def _scale(path: Scanpath) -> float:
    """Return canvas px per px of the stimulus."""
    return Letterbox(image_size=(path.width, path.height)).scale
