"""Score reasoning segmentation on ReasonSeg.

Flow: Selection -> data/reasonseg.py -> benchmark; pixels to be ignored do not count.
Source: LISA, arXiv:2308.00692. Its released evaluation asks only the first text of each picture; where pictures have
    several, both figures are reported.
"""

from collections.abc import Sequence
from dataclasses import replace

from sa2va.data.catalog import FOLDERS
from sa2va.data.reasonseg import reasonseg as read
from sa2va.data.referring import ReferredPicture
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection
from sa2va.evaluation.benchmarks.expressions import (
    Referral,
    answer_figures,
    build_benchmark,
    list_referrals,
    measure_overlap,
    of_picture,
)
from sa2va.evaluation.blind import BlindMasks
from sa2va.metrics.referring import cumulative_iou, mean_iou

BLIND = BlindMasks()
QUERY, LONG, SHORT = "query", "long", "short"  # a fact and its values: a sentence or a phrase
TEXT, FIRST, FURTHER = "text", "first", "further"  # of a picture
METRICS = (
    "gIoU = mean IoU and cIoU = total intersection over total union, over the first text of each picture, without "
    "pixels to be ignored"
)


def reasonseg(selection: Selection) -> Benchmark[Referral]:
    """Build the benchmark of a split.

    Raises:
        ValueError: the data is missing or damaged, or has no such split.
    """
    dataset = read(selection.find(FOLDERS["reasonseg"]), split=selection.split)
    title = f"ReasonSeg {selection.split}"
    texts = list_referrals(dataset, dataset.records, list_texts)
    referrals = sorted(texts, key=lambda one: dict(one.facts)[TEXT] == FURTHER)  # a limit takes the first texts
    return build_benchmark(title, referrals, selection, summarize, metrics=METRICS, blind=BLIND)


def list_texts(record: ReferredPicture) -> list[Referral]:
    """List the texts of a picture with their kind and place."""
    return [
        replace(
            one,
            facts=(
                (QUERY, LONG if one.expression.is_sentence else SHORT),
                (TEXT, FURTHER if number else FIRST),
            ),
        )
        for number, one in enumerate(of_picture(record))
    ]


def summarize(records: Sequence[Record]) -> list[Figure]:
    """Compute gIoU and cIoU of the first texts, of their long and short ones, and of every text."""
    first = [record for record in records if record["facts"][TEXT] == FIRST]
    figures = [
        measure_overlap("gIoU", first, mean_iou, blind=BLIND),
        measure_overlap("cIoU", first, cumulative_iou, blind=BLIND),
    ]
    parts = [(f"{kind} queries", [one for one in first if one["facts"][QUERY] == kind]) for kind in (LONG, SHORT)]
    for name, part in [*parts, ("every text", list(records))]:
        if part and len(part) != len(first):
            figures.append(measure_overlap(f"gIoU, {name}", part, mean_iou, blind=BLIND))
            figures.append(measure_overlap(f"cIoU, {name}", part, cumulative_iou, blind=BLIND))
    return [*figures, *answer_figures(first)]
