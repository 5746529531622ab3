"""Compute figures pooled over all cases: pack sizes, saccades, durations, hit curve, bits per fixation.

Flow: cases, scanpaths of each -> statistics_of -> a Statistic per figure, by name; log densities of people's fixations
    -> likelihoods.
Source: figures as in gaze/metrics/; pack size probabilities are estimated from equally many scanpaths for every row.
Shapes: N cases, S scanpaths of a case, P people, E pooled values, L words.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.gaze.evaluation.cases import Case, EncodedScanpath, other_scanpaths
from sa2va.gaze.evaluation.tally import Statistic, Weights, of_values, pooled_mean
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics import motion, sizes, target
from sa2va.gaze.trial import Trial
from sa2va.metrics.calibration import ece

MAX_LEFT = 5  # largest number of words left in the hit curve
ScanpathRows = Sequence[Sequence[EncodedScanpath]]  # N times S
Array = NDArray[np.float64]


def statistics_of(cases: Sequence[Case], scanpaths: ScanpathRows, *, own: bool) -> dict[str, Statistic]:
    """Compute the figures pooled over all cases.

    Args:
        cases: N.
        scanpaths: Scanpaths of a system, or of the people themselves.
        own: The scanpaths are the people's own; figures of the difference from people are left out.
    """
    people = [case.people for case in cases]
    found = {
        "fixations": pooled_mean([sum(len(one.points) for one in row) for row in scanpaths], list(map(len, scanpaths)))
    }
    found |= _saccades(scanpaths, people, own) | _curve(cases, scanpaths, people, own)
    if any(case.num_packs > 2 for case in cases):
        found |= _sizes(scanpaths, people, own)
    return found


def differences(name: str, human: Sequence[ArrayLike], ours: Sequence[ArrayLike], edges: Array) -> dict[str, Statistic]:
    """Compare two distributions: "NAME EMD" in their unit, "NAME KL" in nats.

    Args:
        name: Name of the quantity.
        human: Human values of each of N cases.
        ours: Predicted values of each of N cases.
        edges: Bin edges.
    """
    values, owners = zip(*(_joined(rows) for rows in (human, ours)), strict=True)
    if not all(map(len, values)):
        return {}
    counts = [
        np.array([motion.histogram(row, edges) if np.size(row) else 0 * edges[1:] for row in rows])
        for rows in (human, ours)
    ]
    return {
        f"{name} EMD": motion.weighted_earth_mover(*values, *owners),
        f"{name} KL": lambda weights: motion.kl_of_counts(weights @ counts[0], weights @ counts[1]),
    }


def _saccades(scanpaths: ScanpathRows, people: ScanpathRows, own: bool) -> dict[str, Statistic]:
    ours, theirs = (
        [np.concatenate([motion.amplitudes(scanpath.points) for scanpath in row]) for row in rows]
        for rows in (scanpaths, people)
    )
    values, owner = _joined(ours)
    found: dict[str, Statistic] = {"saccade median": of_values(np.median, owner, values)}
    return found if own else found | differences("saccade", theirs, ours, motion.AMPLITUDE_EDGES)


def _sizes(scanpaths: ScanpathRows, people: ScanpathRows, own: bool) -> dict[str, Statistic]:
    """Compute the distribution of word pack sizes, and how well it predicts those of a left-out person."""
    ours, theirs = (np.array([_class_counts(row) for row in rows]) for rows in (scanpaths, people))  # (N, C)
    losses, chances, empty, owner = [], [], [], []
    for number, (row, crowd) in enumerate(zip(scanpaths, people, strict=True)):
        tables = [_size_table(row, seat, len(crowd)) for seat in range(len(crowd))]
        real = [sizes.size_classes(person.sizes[1:-1]) for person in crowd]
        if own and len(crowd) < 2:
            tables, real = [], []
        logs = [-np.log(table[np.arange(len(size)), size]) for table, size in zip(tables, real, strict=True)]
        losses.append(np.concatenate([*logs, np.zeros(0)]))
        chances += [table[:, 0] for table in tables]
        empty += [size == 0 for size in real]
        owner += [number] * sum(map(len, real))
    found: dict[str, Statistic] = {
        f"packs of {size}": pooled_mean(ours[:, size], ours.sum(1)) for size in range(sizes.NUM_CLASSES)
    }
    found["empty packs"] = found["packs of 0"]
    if owner:
        found["empty ECE"] = of_values(ece, owner, np.concatenate(chances), np.concatenate(empty).astype(float))
        if all(len(row) > 1 for row in scanpaths):
            found["size NLL"] = pooled_mean([row.sum() for row in losses], [row.size for row in losses])
    if not own:
        found["size gap"] = lambda weights: float(np.abs(_shares(weights @ ours) - _shares(weights @ theirs)).max())
    return found


def _class_counts(scanpaths: Sequence[EncodedScanpath]) -> Array:
    classes = sizes.size_classes([size for scanpath in scanpaths for size in scanpath.sizes[1:-1]])
    return np.bincount(classes, minlength=sizes.NUM_CLASSES).astype(float)


def _size_table(scanpaths: Sequence[EncodedScanpath], seat: int, num_people: int) -> Array:
    """Estimate size probabilities of each word, (L, C), from as many scanpaths as there are other people."""
    counted = [scanpath.sizes[1:-1] for scanpath in other_scanpaths(scanpaths, seat, num_people)]
    return sizes.size_probabilities(np.array(counted).reshape(len(counted), -1))


def _curve(cases: Sequence[Case], scanpaths: ScanpathRows, people: ScanpathRows, own: bool) -> dict[str, Statistic]:
    """Compute the share of fixations on the target by words left, and its difference from people's."""
    most = max(case.num_packs for case in cases) - 2
    ours, theirs = (
        np.array([_hit_counts(case, row, most) for case, row in zip(cases, rows, strict=True)])
        for rows in (scanpaths, people)
    )  # (N, 2, L + 2)
    places = ["hit, before", *(f"hit, {left} words left" for left in range(most)), "hit, after"]
    found: dict[str, Statistic] = {
        name: pooled_mean(ours[:, 0, number], ours[:, 1, number])
        for number, name in enumerate(places)
        if number <= MAX_LEFT + 1 or number == len(places) - 1
    }

    def gap(weights: Weights) -> float:
        curves = [target.curve_of_counts(np.tensordot(weights, counts, 1)) for counts in (ours, theirs)]
        return target.curve_gap(*curves)

    return found if own else found | {"hit curve gap": gap}


def _hit_counts(case: Case, scanpaths: Sequence[EncodedScanpath], num_words: int) -> Array:
    rows = (
        [[target.inside_box(pack, case.box) for pack in scanpath.packs] for scanpath in scanpaths] if case.box else []
    )
    return target.hit_counts(rows, num_words)


def likelihoods(
    rows: Sequence[Iterable[tuple[Trial, Array | None, Array | None]]],
) -> dict[str, Statistic]:
    """Compute bits per fixation above a uniform density, by kind of pack, and the model's own size likelihood.

    Args:
        rows: For each of N cases: trials, each with its (K,) log densities or None, and its (L + 2,) log probabilities
            of pack sizes given all earlier packs or None.
    """
    places = ("bits", "bits before", "bits words", "bits after")
    sums, counts = np.zeros((len(places), len(rows))), np.zeros((len(places), len(rows)))
    losses, numbers = np.zeros(len(rows)), np.zeros(len(rows))
    uniform = math.log(CANVAS[0] * CANVAS[1])
    for number, row in enumerate(rows):
        for trial, density, size in row:
            if density is not None:
                ends = np.cumsum(trial.scanpath.sizes)
                bits = (np.asarray(density, float) + uniform) / math.log(2)
                for place, piece in enumerate((bits, *np.split(bits, [ends[0], ends[-2]]))):
                    sums[place, number] += piece.sum()
                    counts[place, number] += piece.size
            if size is not None:
                losses[number] -= size[1:-1].sum()
                numbers[number] += len(size) - 2
    found = {name: pooled_mean(sums[place], counts[place]) for place, name in enumerate(places) if counts[place].any()}
    return found | ({"size NLL of the model": pooled_mean(losses, numbers)} if numbers.any() else {})


def _joined(rows: Sequence[ArrayLike]) -> tuple[Array, NDArray[np.int64]]:
    """Concatenate all values (E,), with the row index of each."""
    owner = np.repeat(np.arange(len(rows)), [np.size(row) for row in rows])
    return np.concatenate([*(np.asarray(row, float) for row in rows), np.zeros(0)]), owner


def _shares(counts: Array) -> Array:
    return counts / counts.sum() if counts.any() else np.full(len(counts), math.nan)
