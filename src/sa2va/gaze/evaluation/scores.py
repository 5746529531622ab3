"""Score scanpaths, from a model, a file or a person, against the people of each case.

Flow: trials -> read_cases -> Cases; samples of each case -> score_samples, or people themselves -> score_people
    -> figures, by name.
Source: gaze/metrics/; strings of packs and their padding as published for RefCOCO-Gaze, arXiv:2407.19605, so that
    figures can stand beside published ones. A sample that ends early has empty packs from there on.
Shapes: S samples, P people, N words, K fixations, C clusters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from sa2va.gaze.evaluation.predictions import Packs
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics import diversity, maps, motion, scanmatch, sequence, sizes, strings, target
from sa2va.gaze.metrics.clusters import Clusters, fit_clusters
from sa2va.gaze.trial import Trial, group_cases

Figures = dict[str, float]
Task = tuple[Callable[..., Figures], tuple[Any, ...], dict[str, Any]]  # what `delayed` makes
MANY = 100  # cases from which processes are worth their start
MAX_LEFT = 5  # words still to come that the hit curve is listed for


@dataclass(frozen=True, eq=False)
class Look:
    """One scanpath as metrics need it: symbols are found once and compared many times."""

    packs: Packs  # N + 2 times (K, 2) xy, px
    centers: NDArray[np.float64]  # (C, 2)

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """(K, 2), all packs in order."""
        return np.concatenate([*self.packs, np.zeros((0, 2))])

    @cached_property
    def string(self) -> list[int]:
        return strings.nearest_symbols(self.points, self.centers)

    @cached_property
    def pieces(self) -> list[list[int]]:
        """A string per pack."""
        return sequence.stand_in_strings(self.packs, self.centers)

    @cached_property
    def cells(self) -> list[int]:
        return scanmatch.grid_symbols(self.points, *CANVAS)

    @property
    def sizes(self) -> list[int]:
        return [len(pack) for pack in self.packs]


@dataclass(frozen=True, eq=False)
class Case:
    """One picture and expression with all people who saw it, on the canvas."""

    name: str
    trials: tuple[Trial, ...]  # (P,)
    clusters: Clusters

    @cached_property
    def people(self) -> list[Look]:
        return [self.look(trial.scanpath.pack_points) for trial in self.trials]

    @property
    def box(self) -> target.Box | None:
        return self.trials[0].target

    @property
    def num_packs(self) -> int:
        return len(self.trials[0].scanpath.packs)

    def look(self, packs: Packs) -> Look:
        """Read a scanpath; packs that it lacks are empty, those beyond the last one join it."""
        kept = [*packs[: self.num_packs], *[np.zeros((0, 2))] * (self.num_packs - len(packs))]
        if len(packs) > self.num_packs:
            kept[-1] = np.concatenate(packs[self.num_packs - 1 :])
        return Look(kept, self.clusters.centers)


def read_cases(trials: Sequence[Trial]) -> list[Case]:
    """Put the trials, on the canvas, together by case, and find the clusters of each.

    Raises:
        ValueError: in a case nobody fixated anything, or people heard different words.
    """
    cases = []
    for name, row in group_cases(trials).items():
        if len({trial.scanpath.words for trial in row}) > 1:
            raise ValueError(f"case {name}: its scanpaths have different words, expected the same for all people")
        if not any(len(trial.scanpath.points) for trial in row):
            raise ValueError(f"case {name}: nobody fixated anything; leave it out of the file")
        cases.append(Case(name, tuple(row), fit_clusters([trial.scanpath.points for trial in row])))
    return cases


def count_other_packs(cases: Sequence[Case], samples: Mapping[str, Sequence[Packs]]) -> int:
    """How many scanpaths have fewer or more packs than their case, so that `Case.look` has to fill or join some."""
    return sum(len(packs) != case.num_packs for case in cases for packs in samples.get(case.name, ()))


def score_samples(cases: Sequence[Case], samples: Mapping[str, Sequence[Packs]]) -> Figures:
    """Score the samples of a system.

    Args:
        cases: those to score; all have samples.
        samples: name of the case -> S scanpaths.

    Returns:
        Figures by name; nan where there is nothing to compare.
    """
    looks = {case.name: [case.look(packs) for packs in samples[case.name]] for case in cases}
    tasks = [delayed(_case_figures)(looks[case.name], case.people, case.box) for case in cases]
    return _mean_figures(_run(tasks)) | _pooled_figures(cases, looks)


def score_people(cases: Sequence[Case]) -> Figures:
    """Score every person as a prediction for the others of the same case; a lonely one is left out."""
    rows = _run([delayed(_crowd_figures)(case.people, case.box) for case in cases if len(case.people) > 1])
    looks = {case.name: case.people for case in cases}
    own = dict.fromkeys(("saccade EMD", "saccade KL", "size gap", "hit curve gap"), float("nan"))  # 0 by definition
    return (_mean_figures(rows) if rows else {}) | _pooled_figures(cases, looks) | own


def _run(tasks: Sequence[Task]) -> list[Figures]:
    """Figures of each case; of many cases in a process per core, with the same result."""
    every_core = -1
    return list(Parallel(n_jobs=every_core if len(tasks) >= MANY else 1)(tasks))


def _crowd_figures(people: Sequence[Look], box: target.Box | None) -> Figures:
    """Mean over the people of one case, each against the others."""
    others = [[*people[:place], *people[place + 1 :]] for place in range(len(people))]
    figures = _mean_figures([_case_figures([one], rest, box) for one, rest in zip(people, others, strict=True)])
    alike = diversity.mutual_similarity([person.string for person in people])
    return figures | {"DSS": alike, "self SS": alike}


def _case_figures(ours: Sequence[Look], people: Sequence[Look], box: target.Box | None) -> Figures:
    """Mean over samples of one case."""
    packs, seen = [one.packs for one in ours], [person.packs for person in people]
    each = maps.score_packs(packs, seen, *CANVAS)
    pooled = maps.score_packs(packs, seen, *CANVAS, pooled=True) if len(packs) > 1 else each
    whole, pieces = [person.string for person in people], [person.pieces for person in people]
    figures = {
        "SS": _mean(ours, lambda one: sequence.sequence_score(one.string, whole)),
        "FED": _mean(ours, lambda one: sequence.fixation_edit_distance(one.string, whole)),
        "SS_pack": _mean(ours, lambda one: sequence.pack_sequence_score(one.pieces, pieces, published=True)),
        "FED_pack": _mean(ours, lambda one: sequence.pack_edit_distance(one.pieces, pieces, published=True)),
        "CC": each.cc,
        "NSS": each.nss,
        "CC of the mean map": pooled.cc,
        "NSS of the mean map": pooled.nss,
        "ScanMatch": _mean(ours, lambda one: np.mean([scanmatch.scanmatch(one.cells, two.cells) for two in people])),
        "DSS": diversity.diversity_score([one.string for one in ours], whole),
        "RSS": diversity.recall_score([one.string for one in ours], whole),
        "self SS": diversity.mutual_similarity([one.string for one in ours]) if len(ours) > 1 else float("nan"),
        "size MAE": _mean(ours, lambda one: np.mean([sizes.size_mae(one.sizes, two.sizes) for two in people])),
    }
    if box is not None:
        figures |= {
            "last hit": _mean(ours, lambda one: target.last_hit(target.inside_box(one.points, box))),
            "any hit": _mean(ours, lambda one: target.any_hit(target.inside_box(one.points, box))),
        }
    return figures


def _pooled_figures(cases: Sequence[Case], looks: Mapping[str, Sequence[Look]]) -> Figures:
    ours = list(chain.from_iterable(looks.values()))
    people = list(chain.from_iterable(case.people for case in cases))
    steps, human_steps = (
        np.concatenate([motion.amplitudes(look.points) for look in row] + [np.zeros(0)]) for row in (ours, people)
    )
    both = len(steps) > 0 and len(human_steps) > 0
    word_sizes = [size for look in ours for size in look.sizes[1:-1]]
    curves = [_hit_curve(cases, row) for row in (looks, {case.name: case.people for case in cases})]
    return {
        "fixations": float(np.mean([len(look.points) for look in ours])),
        "saccade median": float(np.median(steps)) if len(steps) else float("nan"),
        "saccade EMD": motion.earth_mover(human_steps, steps) if both else float("nan"),
        "saccade KL": motion.kl_divergence(human_steps, steps, motion.AMPLITUDE_EDGES) if both else float("nan"),
        "size gap": _size_gap(ours, people) if word_sizes else float("nan"),
        "empty ECE": _empty_error(cases, looks) if word_sizes else float("nan"),
        "empty packs": float(np.mean(np.array(word_sizes) == 0)) if word_sizes else float("nan"),
        "hit curve gap": target.curve_gap(*curves),
        **_points_of(curves[0]),
        **({f"packs of {size}": share for size, share in enumerate(_size_shares(ours))} if word_sizes else {}),
    }


def _points_of(curve: target.HitCurve) -> Figures:
    """The hit curve, a figure per place."""
    left = {f"hit, {count} words left": share for count, share in curve.words_left.items() if count <= MAX_LEFT}
    return {"hit, before": curve.before, **left, "hit, after": curve.after}


def _size_gap(ours: Sequence[Look], people: Sequence[Look]) -> float:
    """Largest difference in how often packs of words have 0, 1, 2, 3 or more fixations."""
    return float(np.abs(_size_shares(ours) - _size_shares(people)).max())


def _size_shares(looks: Sequence[Look]) -> NDArray[np.float64]:
    """Shares of packs of words with 0, 1, 2, 3 or more fixations."""
    classes = sizes.size_classes([size for look in looks for size in look.sizes[1:-1]])
    return np.bincount(classes, minlength=sizes.NUM_CLASSES) / len(classes)


def _empty_error(cases: Sequence[Case], looks: Mapping[str, Sequence[Look]]) -> float:
    """Calibration error of "nobody looks anew during this word", chances counted from samples."""
    tables, real = [], []
    for case in cases:
        table = sizes.size_probabilities(np.array([look.sizes[1:-1] for look in looks[case.name]]))
        for person in case.people:
            tables.append(table)
            real += person.sizes[1:-1]
    return sizes.empty_calibration(np.concatenate(tables), real)


def _hit_curve(cases: Sequence[Case], looks: Mapping[str, Sequence[Look]]) -> target.HitCurve:
    return target.hit_curve(
        [
            [target.inside_box(pack, case.box) for pack in look.packs]
            for case in cases
            if case.box is not None
            for look in looks[case.name]
        ]
    )


def sampled_size_nll(cases: Sequence[Case], samples: Mapping[str, Sequence[Packs]]) -> float:
    """Likelihood of people's pack sizes during words, with probabilities counted from samples.

    Returns:
        nats per pack; nan when a case has a single sample, or there are no words.
    """
    losses: list[float] = []
    for case in cases:
        rows = [case.look(packs).sizes[1:-1] for packs in samples[case.name]]
        if len(rows) < 2 or not rows[0]:
            return float("nan")
        table = sizes.size_probabilities(np.array(rows))
        losses += [sizes.size_nll(table, person.sizes[1:-1]) for person in case.people for _ in rows[0]]
    return float(np.mean(losses)) if losses else float("nan")


def _mean(looks: Sequence[Look], score: Callable[[Look], float]) -> float:
    return float(np.mean([score(look) for look in looks]))


def _mean_figures(rows: Sequence[Figures]) -> Figures:
    names = dict.fromkeys(chain.from_iterable(rows))
    values = {name: np.array([row.get(name, np.nan) for row in rows], float) for name in names}
    return {name: float(np.nanmean(row)) if np.isfinite(row).any() else float("nan") for name, row in values.items()}
