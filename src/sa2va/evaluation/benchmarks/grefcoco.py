"""Score referring segmentation on gRefCOCO, whose expressions refer to one, several or no objects.

Flow: Selection -> data/grefcoco.py -> benchmark.
Source: GRES, arXiv:2306.00968. An answer says that there is no target by an empty mask: no [SEG], or only empty masks.
"""

from collections.abc import Sequence

from sa2va.data.catalog import FOLDERS
from sa2va.data.grefcoco import grefcoco as read
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection
from sa2va.evaluation.benchmarks.expressions import (
    Referral,
    answer_figures,
    build_pictures,
    measure_overlap,
    precision_figures,
    split_by_target,
)
from sa2va.evaluation.blind import BlindMasks
from sa2va.metrics.referring import (
    cumulative_iou,
    mean_iou,
    no_target_accuracy,
    target_accuracy,
    target_precision_at,
)

BLIND = BlindMasks()
METRICS = (
    "cIoU = total intersection over total union; gIoU = mean IoU, 1 for an empty mask where nothing is meant; N-acc = "
    "share of expressions without a target whose mask is empty; T-acc = share of those with one whose mask is not; "
    "Pr@X over those with one"
)


def grefcoco(selection: Selection) -> Benchmark[Referral]:
    """Build the benchmark of a split.

    Raises:
        ValueError: the data is missing or damaged, or has no such split.
    """
    dataset = read(selection.find(FOLDERS["grefcoco"]), split=selection.split, as_evaluated=True)
    return build_pictures("gRefCOCO", dataset, selection, summarize, METRICS, BLIND)


def summarize(records: Sequence[Record]) -> list[Figure]:
    """Compute cIoU, gIoU, N-acc, T-acc and the precision over expressions with a target."""
    present, absent = split_by_target(records)
    return [
        measure_overlap("gIoU", records, mean_iou, blind=BLIND),
        measure_overlap("cIoU", records, cumulative_iou, blind=BLIND),
        measure_overlap("N-acc", absent, no_target_accuracy),
        measure_overlap("T-acc", present, target_accuracy),
        *precision_figures(present, target_precision_at),
        *answer_figures(records),
    ]
