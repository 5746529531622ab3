"""Score referring segmentation on a user's own data, beside masks made without looking.

Flow: `sa2va eval --benchmarks own --data PATH`: Selection -> data/own -> own; `sa2va finetune`: OwnDataset -> held_out.
    Every expression is asked, and one category that is not there for each picture or clip whose format tells that.
"""

from collections.abc import Sequence
from functools import partial
from zlib import crc32

import numpy as np

from sa2va.data.own.dataset import OwnDataset, OwnRecord, build
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection, measure
from sa2va.evaluation.benchmarks.expressions import (
    Referral,
    build_benchmark,
    list_referrals,
    measure_overlap,
    split_by_target,
)
from sa2va.evaluation.blind import CENTER_SIDES, BlindMasks, center_box
from sa2va.media.source import uniform_indices
from sa2va.metrics.iou import Overlap, overlap
from sa2va.metrics.referring import cumulative_iou, mean_iou, no_target_accuracy, target_accuracy

METRICS = (
    "cIoU and mean IoU over expressions of what is there, pooled over the frames of a clip; J&F = mean over frames; "
    "N-acc and T-acc = share of expressions of what is not and what is there that get an empty mask and another one"
)


def own(selection: Selection) -> Benchmark[Referral]:
    """Build the benchmark of all data below a path, in any format that `sa2va data check own` reads.

    Raises:
        ValueError: the format is unknown, a record is damaged, or nothing can be asked for.
    """
    return held_out(build(selection.find(), split=selection.split), selection=selection)


def held_out(
    dataset: OwnDataset, *, blind: BlindMasks | None = None, num_records: int | None = None,
    selection: Selection | None = None,
) -> Benchmark[Referral]:  # fmt: skip
    """Build the benchmark of a dataset's records.

    Args:
        dataset: pictures or clips with expressions.
        blind: masks made without looking.
        num_records: records to ask about, spread over the dataset; None = all.
        selection: which expressions are asked, and how; None = all.

    Raises:
        ValueError: nothing can be asked for.
    """
    blind = blind or BlindMasks()
    chosen = range(len(dataset)) if num_records is None else uniform_indices(len(dataset), num_records)
    records = [dataset.records[index] for index in chosen]
    referrals = list_referrals(dataset, records, list_expressions)
    if not any(one.expression.objects for one in referrals):
        raise ValueError(f"dataset {dataset.name}: no record has an expression with a mask; nothing can be measured")
    return build_benchmark(
        "Own data",
        referrals,
        selection or Selection(split="val"),
        partial(summarize, blind=blind),
        metrics=METRICS,
        blind=blind,
    )


def list_expressions(record: OwnRecord) -> list[Referral]:
    """List all expressions of a record, and one of what is not there; ids are NAME/TEXT."""
    name = record.item.name
    absent = record.absent[crc32(name.encode()) % len(record.absent) :][:1] if record.absent else ()
    return [
        Referral(id=f"{name}/{one.text}", group=name, media=record.item.media, tracks=record.tracks, expression=one)
        for one in (*record.expressions, *absent)
    ]


def choose_center(dataset: OwnDataset, num_records: int = 200) -> float:
    """Choose the side of the center box with the highest cIoU on training data."""
    records = [dataset.records[index] for index in uniform_indices(len(dataset), num_records)]
    rows = np.zeros((len(CENTER_SIDES), len(Overlap._fields)))
    for one in list_referrals(dataset, records, list_expressions):
        for frame in range(one.num_frames if one.expression.objects else 0):
            truth = one.truth(frame)
            rows += [overlap(center_box(one.size, side), truth) for side in CENTER_SIDES]
    return CENTER_SIDES[int(np.argmax([cumulative_iou(row[None]) for row in rows]))]


def summarize(records: Sequence[Record], *, blind: BlindMasks) -> list[Figure]:
    """Compute cIoU and mean IoU of what is there, cIoU of each blind mask, J&F of clips, N-acc and T-acc."""
    there = [record for record in records if record["present"]]
    figures = [
        measure_overlap("cIoU", there, cumulative_iou, blind=blind),
        measure_overlap("mean IoU", there, mean_iou, blind=blind),
    ]
    groups = [record["group"] for record in there]
    guesses = np.array([record["blind"] for record in there], float).reshape(-1, len(blind.names), len(Overlap._fields))
    for place, name in enumerate(blind.names):
        figures.append(measure(f"cIoU of {name}", guesses[:, place], cumulative_iou, groups=groups))
    if clips := [record for record in there if "jf" in record]:
        values = np.array([record["jf"] for record in clips])
        figures.append(measure("J&F of clips", values, groups=[record["group"] for record in clips]))
    if len(there) < len(records):
        figures.append(measure_overlap("N-acc", split_by_target(records)[1], no_target_accuracy))
    return [*figures, measure_overlap("T-acc", there, target_accuracy)]
