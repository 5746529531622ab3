"""Count what is compared over all cases at once: sizes of packs, saccades, durations, when eyes are on the target.

Flow: cases, looks of each -> statistics_of -> a Statistic per figure, by name; log densities of people's fixations
    -> likelihoods.
Source: figures as in gaze/metrics/; chances of pack sizes are counted from as many looks for every row, so that none
    knows more of the clock than another.
Shapes: N cases, S looks of a case, P people, E pooled values, L words.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.gaze.evaluation.cases import Case, Look, other_looks
from sa2va.gaze.evaluation.tally import Statistic, Weights, of_values, pooled_mean
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics import motion, sizes, target
from sa2va.gaze.trial import Trial
from sa2va.metrics.calibration import ece

MAX_LEFT = 5  # words still to come that the hit curve is listed for
Looks = Sequence[Sequence[Look]]  # N times S
Array = NDArray[np.float64]


def statistics_of(cases: Sequence[Case], looks: Looks, *, own: bool) -> dict[str, Statistic]:
    """Figures over all cases.

    Args:
        cases: N.
        looks: of a system, or the people themselves.
        own: these are the people, who do not differ from themselves.
    """
    people = [case.people for case in cases]
    found = {"fixations": pooled_mean([sum(len(one.points) for one in row) for row in looks], list(map(len, looks)))}
    found |= _saccades(looks, people, own) | _curve(cases, looks, people, own)
    if any(case.num_packs > 2 for case in cases):
        found |= _sizes(looks, people, own)
    return found


def differences(name: str, human: Sequence[ArrayLike], ours: Sequence[ArrayLike], edges: Array) -> dict[str, Statistic]:
    """How two distributions differ: "NAME EMD" in their unit, "NAME KL" in nats.

    Args:
        name: of what is compared.
        human: values of each of N cases.
        ours: the same.
        edges: of the bins.
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


def _saccades(looks: Looks, people: Looks, own: bool) -> dict[str, Statistic]:
    ours, theirs = (
        [np.concatenate([motion.amplitudes(look.points) for look in row]) for row in rows] for rows in (looks, people)
    )
    values, owner = _joined(ours)
    found: dict[str, Statistic] = {"saccade median": of_values(np.median, owner, values)}
    return found if own else found | differences("saccade", theirs, ours, motion.AMPLITUDE_EDGES)


def _sizes(looks: Looks, people: Looks, own: bool) -> dict[str, Statistic]:
    """Sizes of the packs of words: how often each occurs, and how well looks foretell those of a further person."""
    ours, theirs = (np.array([_class_counts(row) for row in rows]) for rows in (looks, people))  # (N, C)
    losses, chances, empty, owner = [], [], [], []
    for number, (row, crowd) in enumerate(zip(looks, people, strict=True)):
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
        if all(len(row) > 1 for row in looks):
            found["size NLL"] = pooled_mean([row.sum() for row in losses], [row.size for row in losses])
    if not own:
        found["size gap"] = lambda weights: float(np.abs(_shares(weights @ ours) - _shares(weights @ theirs)).max())
    return found


def _class_counts(looks: Sequence[Look]) -> Array:
    classes = sizes.size_classes([size for look in looks for size in look.sizes[1:-1]])
    return np.bincount(classes, minlength=sizes.NUM_CLASSES).astype(float)


def _size_table(looks: Sequence[Look], seat: int, num_people: int) -> Array:
    """Chance of each size during each word, (L, C), counted from as many looks as there are other people."""
    counted = [look.sizes[1:-1] for look in other_looks(looks, seat, num_people)]
    return sizes.size_probabilities(np.array(counted).reshape(len(counted), -1))


def _curve(cases: Sequence[Case], looks: Looks, people: Looks, own: bool) -> dict[str, Statistic]:
    """Share of fixations on the target by words still to come, and how far it lies from people's."""
    most = max(case.num_packs for case in cases) - 2
    ours, theirs = (
        np.array([_hit_counts(case, row, most) for case, row in zip(cases, rows, strict=True)])
        for rows in (looks, people)
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


def _hit_counts(case: Case, looks: Sequence[Look], num_words: int) -> Array:
    rows = [[target.inside_box(pack, case.box) for pack in look.packs] for look in looks] if case.box else []
    return target.hit_counts(rows, num_words)


def likelihoods(
    rows: Sequence[Iterable[tuple[Trial, Array | None, Array | None]]],
) -> dict[str, Statistic]:
    """Bits per fixation above an even canvas, of all packs and by the kind of pack, and what a law says of sizes.

    Args:
        rows: of each of N cases a trial, (K,) log density of its fixations or None, (L + 2,) log probability of its
            sizes given all packs before or None.
    """
    places = ("bits", "bits before", "bits words", "bits after")
    sums, counts = np.zeros((len(places), len(rows))), np.zeros((len(places), len(rows)))
    laws, numbers = np.zeros(len(rows)), np.zeros(len(rows))
    even = math.log(CANVAS[0] * CANVAS[1])
    for number, row in enumerate(rows):
        for trial, density, size in row:
            if density is not None:
                ends = np.cumsum(trial.scanpath.sizes)
                bits = (np.asarray(density, float) + even) / math.log(2)
                for place, piece in enumerate((bits, *np.split(bits, [ends[0], ends[-2]]))):
                    sums[place, number] += piece.sum()
                    counts[place, number] += piece.size
            if size is not None:
                laws[number] -= size[1:-1].sum()
                numbers[number] += len(size) - 2
    found = {name: pooled_mean(sums[place], counts[place]) for place, name in enumerate(places) if counts[place].any()}
    return found | ({"size NLL by its own law": pooled_mean(laws, numbers)} if numbers.any() else {})


def _joined(rows: Sequence[ArrayLike]) -> tuple[Array, NDArray[np.int64]]:
    """All values (E,), and the number of the row that each comes from."""
    owner = np.repeat(np.arange(len(rows)), [np.size(row) for row in rows])
    return np.concatenate([*(np.asarray(row, float) for row in rows), np.zeros(0)]), owner


def _shares(counts: Array) -> Array:
    return counts / counts.sum() if counts.any() else np.full(len(counts), math.nan)
