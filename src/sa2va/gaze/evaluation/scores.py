"""Score scanpaths of a model, a file or a person against the people of each case.

Flow: cases, samples of each -> score_samples, or the people themselves -> score_people -> Measured: means over cases,
    and the pooled figures of pooled.py.
Source: gaze/metrics/; pack strings and padding as published for RefCOCO-Gaze, arXiv:2407.19605, for comparable figures.
    A sample that ends early has empty packs from there on. Leave-one-out: each sample replaces one person and is
    compared with the others, as that person is, so that all rows are compared with equally many people.
Shapes: S samples, P people.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from sklearn.utils.parallel import Parallel, delayed

from sa2va.gaze.evaluation import pooled
from sa2va.gaze.evaluation.cases import Case, EncodedScanpath, other_scanpaths
from sa2va.gaze.evaluation.predictions import Packs
from sa2va.gaze.evaluation.tally import Measured, mean_of_cases
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics import diversity, maps, scanmatch, sequence, sizes, target

Figures = dict[str, float]
Task = tuple[Callable[..., Figures], tuple[Any, ...], dict[str, Any]]  # a call deferred by joblib's `delayed`
MANY = 100  # number of cases from which a process pool is faster
EVERY_CORE = -1


def score_samples(cases: Sequence[Case], samples: Mapping[str, Sequence[Packs]], *, jobs: int = EVERY_CORE) -> Measured:
    """Score the samples of a system.

    Args:
        cases: Cases to score; all have samples.
        samples: Case name -> S scanpaths.
        jobs: Number of processes, used from MANY cases on; -1 = one per core.
    """
    return _score(cases, [[case.encode(packs) for packs in samples[case.name]] for case in cases], own=False, jobs=jobs)


def score_people(cases: Sequence[Case], *, jobs: int = EVERY_CORE) -> Measured:
    """Score every person as a prediction for the others of the same case; cases of one person are left out."""
    return _score(cases, [case.people for case in cases], own=True, jobs=jobs)


def _score(cases: Sequence[Case], scanpaths: Sequence[Sequence[EncodedScanpath]], *, own: bool, jobs: int) -> Measured:
    """Compute the figures of each case, in processes for many cases, and the pooled ones."""
    tasks: list[Task] = [
        delayed(_case_figures)(ours, case.people, case.box, own) for case, ours in zip(cases, scanpaths, strict=True)
    ]
    # loky spawns: a fork would inherit the locks of torch's threads and deadlock.
    rows = list(Parallel(n_jobs=jobs if len(tasks) >= MANY else 1, backend="loky")(tasks))
    names = dict.fromkeys(chain.from_iterable(rows))
    means = {name: mean_of_cases([row.get(name, math.nan) for row in rows]) for name in names}
    statistics = means | pooled.statistics_of(cases, scanpaths, own=own)
    return Measured(tuple(case.name for case in cases), tuple(case.picture for case in cases), statistics)


def _case_figures(
    ours: Sequence[EncodedScanpath], people: Sequence[EncodedScanpath], box: target.Box | None, own: bool
) -> Figures:
    """Average figures over the scanpaths of a case; each replaces one person and is compared with the others."""
    if own and len(people) < 2:
        return {}
    pairs = [(one, other_scanpaths(people, seat % len(people), len(people))) for seat, one in enumerate(ours)]
    crowds = [(person, other_scanpaths(ours, seat, len(people))) for seat, person in enumerate(people)]
    strings = [one.string for one in ours]
    each = [maps.score_packs([one.packs], [two.packs for two in rest], *CANVAS) for one, rest in pairs]
    together = [
        maps.score_packs([one.packs for one in crowd], [person.packs], *CANVAS, pooled=True) for person, crowd in crowds
    ]
    alike = diversity.mutual_similarity(strings) if len(ours) > 1 else math.nan
    figures = {
        "SS": _mean(sequence.sequence_score(one.string, [two.string for two in rest]) for one, rest in pairs),
        "FED": _mean(sequence.fixation_edit_distance(one.string, [two.string for two in rest]) for one, rest in pairs),
        "SS_pack": _mean(
            sequence.pack_sequence_score(one.pieces, [two.pieces for two in rest], published=True)
            for one, rest in pairs
        ),
        "FED_pack": _mean(
            sequence.pack_edit_distance(one.pieces, [two.pieces for two in rest], published=True) for one, rest in pairs
        ),
        "CC": _mean(one.cc for one in each),
        "NSS": _mean(one.nss for one in each),
        "CC of the mean map": _mean(one.cc for one in together),
        "NSS of the mean map": _mean(one.nss for one in together),
        "ScanMatch": _mean(scanmatch.scanmatch(one.cells, two.cells) for one, rest in pairs for two in rest),
        "DSS": alike if own else diversity.diversity_score(strings, [person.string for person in people]),
        "RSS": _mean(diversity.recall_score([one.string for one in crowd], [who.string]) for who, crowd in crowds),
        "self SS": alike,
        "size MAE": _mean(sizes.size_mae(one.sizes, two.sizes) for one, rest in pairs for two in rest),
    }
    if box is not None:
        hits = [target.inside_box(one.points, box) for one in ours]
        figures |= {"last hit": _mean(map(target.last_hit, hits)), "any hit": _mean(map(target.any_hit, hits))}
    return figures


def _mean(values: Iterable[float]) -> float:
    row = np.array(list(values), float)
    return float(np.nanmean(row)) if np.isfinite(row).any() else math.nan
