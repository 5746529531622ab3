"""Score scanpaths, from a model, a file or a person, against the people of each case.

Flow: cases, samples of each -> score_samples, or people themselves -> score_people -> Measured: means over cases, and
    what pooled.py counts over all of them.
Source: gaze/metrics/; strings of packs and their padding as published for RefCOCO-Gaze, arXiv:2407.19605, so that
    figures can stand beside published ones. A sample that ends early has empty packs from there on.
    Everybody is held against equally many people: each sample takes the seat of one person and is compared with
    the others, as that person is; what is counted from looks is counted from as many as there are other people.
Shapes: S samples, P people.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from sklearn.utils.parallel import Parallel, delayed

from sa2va.gaze.evaluation import pooled
from sa2va.gaze.evaluation.cases import Case, Look, other_looks
from sa2va.gaze.evaluation.predictions import Packs
from sa2va.gaze.evaluation.tally import Measured, mean_of_cases
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics import diversity, maps, scanmatch, sequence, sizes, target

Figures = dict[str, float]
Task = tuple[Callable[..., Figures], tuple[Any, ...], dict[str, Any]]  # what `delayed` makes
MANY = 100  # cases from which processes are worth their start
EVERY_CORE = -1


def score_samples(cases: Sequence[Case], samples: Mapping[str, Sequence[Packs]], *, jobs: int = EVERY_CORE) -> Measured:
    """Score the samples of a system.

    Args:
        cases: those to score; all have samples.
        samples: name of the case -> S scanpaths.
        jobs: processes, from MANY cases on; -1 = one per core.
    """
    return _score(cases, [[case.look(packs) for packs in samples[case.name]] for case in cases], own=False, jobs=jobs)


def score_people(cases: Sequence[Case], *, jobs: int = EVERY_CORE) -> Measured:
    """Score every person as a prediction for the others of the same case; a lonely one is left out."""
    return _score(cases, [case.people for case in cases], own=True, jobs=jobs)


def _score(cases: Sequence[Case], looks: Sequence[Sequence[Look]], *, own: bool, jobs: int) -> Measured:
    """Figures of each case, of many cases in processes, with the same result, and those of all of them."""
    tasks: list[Task] = [
        delayed(_case_figures)(ours, case.people, case.box, own) for case, ours in zip(cases, looks, strict=True)
    ]
    # loky starts its processes afresh: a fork would inherit the locks of torch's threads, and wait for ever.
    rows = list(Parallel(n_jobs=jobs if len(tasks) >= MANY else 1, backend="loky")(tasks))
    names = dict.fromkeys(chain.from_iterable(rows))
    means = {name: mean_of_cases([row.get(name, math.nan) for row in rows]) for name in names}
    statistics = means | pooled.statistics_of(cases, looks, own=own)
    return Measured(tuple(case.name for case in cases), tuple(case.picture for case in cases), statistics)


def _case_figures(ours: Sequence[Look], people: Sequence[Look], box: target.Box | None, own: bool) -> Figures:
    """Mean over the looks of one case, each in the seat of one person, against the other people."""
    if own and len(people) < 2:
        return {}
    pairs = [(one, other_looks(people, seat % len(people), len(people))) for seat, one in enumerate(ours)]
    crowds = [(person, other_looks(ours, seat, len(people))) for seat, person in enumerate(people)]
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
