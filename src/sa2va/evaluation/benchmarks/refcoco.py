"""Score referring segmentation on RefCOCO, RefCOCO+ and RefCOCOg.

Flow: Selection -> data/refcoco.py, every sentence of the split as the dataset cleaned it -> benchmark.
Source: cIoU, mIoU (gIoU here) and Pr@X as in LAVT, arXiv:2112.02244; the masks that count as in the released
    evaluation of Sa2VA, arXiv:2501.04001, which at first counted only the first mask of an answer.
"""

from collections.abc import Callable, Sequence
from functools import partial

from sa2va.data import refcoco as reader
from sa2va.data.catalog import FOLDERS
from sa2va.data.referring import ReferringPictures
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection
from sa2va.evaluation.benchmarks.expressions import (
    Referral,
    answer_figures,
    build_pictures,
    measure_overlap,
    precision_figures,
)
from sa2va.evaluation.blind import BlindMasks
from sa2va.metrics.referring import cumulative_iou, mean_iou, precision_at

BLIND = BlindMasks()
METRICS = "cIoU = total intersection over total union, gIoU = mean IoU (1 where both masks are empty), Pr@X = IoU >= X"


def build(name: str, title: str, read: Callable[..., ReferringPictures], selection: Selection) -> Benchmark[Referral]:
    """Build a benchmark of a split.

    Raises:
        ValueError: the data is missing or damaged, or has no such split.
    """
    dataset = read(selection.find(FOLDERS[name]), split=selection.split, as_evaluated=True)
    return build_pictures(title, dataset, selection, summarize, METRICS, BLIND)


def summarize(records: Sequence[Record]) -> list[Figure]:
    """Compute cIoU, gIoU and precision over all sentences."""
    return [
        measure_overlap("cIoU", records, cumulative_iou, blind=BLIND),
        measure_overlap("gIoU", records, mean_iou, blind=BLIND),
        *precision_figures(records, precision_at),
        *answer_figures(records),
    ]


refcoco = partial(build, "refcoco", "RefCOCO", reader.refcoco)
refcoco_plus = partial(build, "refcoco+", "RefCOCO+", reader.refcoco_plus)
refcocog = partial(build, "refcocog", "RefCOCOg", reader.refcocog)
