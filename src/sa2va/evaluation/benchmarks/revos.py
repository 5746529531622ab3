"""Benchmark on ReVOS: expressions that refer, and questions that need reasoning.

Flow: data/revos.py -> clips.py -> J, F, A, R of each kind, and their unweighted mean.
Source: Yan et al., arXiv:2407.11325: overall is the mean of the two kinds, whatever their sizes. Expressions of nothing
    (type 2) are in no published figure and are reported apart.
"""

from collections.abc import Sequence

import numpy as np

from sa2va.data import revos
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection, measure
from sa2va.evaluation.benchmarks.clips import ClipItem, build_expressions, kind_figures

SPLITS = ("valid",)
KINDS = {0: "referring", 1: "reasoning"}
NOTHING = 2  # type_id of expressions of nothing
PROTOCOL = (
    "J, F, accuracy A and robustness R per frame, means over frames and expressions of a kind, overall = unweighted "
    "mean of referring and reasoning"
)


def build(selection: Selection) -> Benchmark[ClipItem]:
    """Build the benchmark of the split "valid".

    Raises:
        ValueError: the data are missing or damaged.
    """
    return build_expressions("revos", "ReVOS", revos.build, selection, protocol=PROTOCOL, summarize=summarize)


def summarize(records: Sequence[Record]) -> list[Figure]:
    """Compute the figures of ReVOS."""
    figures = kind_figures(records, KINDS)
    nothing = [one for one in records if one["type_id"] == NOTHING]
    if nothing:
        rows = np.array([one["score"] for one in nothing])
        figures.append(measure("J&F, nothing there", rows, groups=[one["group"] for one in nothing]))
    return figures
