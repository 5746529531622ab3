"""Measure a model on held-out data before and after fine-tuning, and draw its best and worst answers.

Flow: base model, adapter -> held_out.held_out on the same records -> figures and their difference -> report;
    the answers of the highest and lowest IoU -> a contact sheet.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.draw.overlay import contact_sheet, overlay
from sa2va.evaluation.benchmark import Answers, Benchmark, Record, ask_each
from sa2va.evaluation.held_out import true_masks
from sa2va.evaluation.referring import averaged, cumulative
from sa2va.metrics.interval import bootstrap_test
from sa2va.metrics.iou import ratio
from sa2va.types import Frame

NUM_SHOWN = 6  # best answers, and as many worst ones
TRUTH, FOUND = 7, 1  # colors of the palette: green, orange


def compare(benchmark: Benchmark, before: Sequence[Record], after: Sequence[Record]) -> dict[str, Any]:
    """Report the figures before and after, and their paired differences over records.

    Raises:
        ValueError: the two were measured on other expressions.
    """
    pairs, owners = [], []
    for owner, (old, new) in enumerate(zip(before, after, strict=True)):
        for row, other in zip(old["rows"], new["rows"], strict=True):
            if row["question"] != other["question"]:
                raise ValueError("held-out data changed since the first measurement; choose another folder")
            pairs.append([row["pairs"][0], other["pairs"][0]])
            owners.append(owner)
    rows = np.array(pairs, float)  # (E, 2, 2): before and after, intersection and union
    changes = {}
    for name, statistic in (("cIoU", cumulative), ("mean IoU", averaged)):
        found = bootstrap_test(rows, lambda rows, of=statistic: of(rows[:, 1]) - of(rows[:, 0]), owners)
        changes[name] = found._asdict()
    return {
        "num_records": len(before),
        "num_expressions": len(rows),
        "before": [figure.to_dict() for figure in benchmark.summarize(list(before))],
        "after": [figure.to_dict() for figure in benchmark.summarize(list(after))],
        "change": changes,
    }


def draw_best_and_worst(predictor: Answers, benchmark: Benchmark, records: Sequence[Record]) -> Frame:
    """Draw the answers of the highest and lowest IoU: the true mask and the predicted one, on their largest frame.

    Args:
        predictor: answers them again.
        benchmark: of `held_out.held_out`.
        records: its records, one per item.
    """
    places = [(item, turn) for item, record in enumerate(records) for turn in range(len(record["rows"]))]
    ious = np.array([float(ratio(*records[item]["rows"][turn]["pairs"][0])) for item, turn in places])
    order = np.argsort(-ious, kind="stable")
    number = min(NUM_SHOWN, max(1, len(order) // 2))
    chosen = [*order[:number], *order[len(order) - number :]] if len(order) > 1 else list(order)
    frames, captions = [], []
    for place in chosen:
        item, turn = places[place]
        sample = benchmark.load(item)
        question, truth = true_masks(sample)[turn]
        answer = predictor.predict_batch([ask_each(sample)[turn]], benchmark.options)[0]
        found = np.asarray(answer.masks.any(axis=0))
        shown = int(truth.sum((1, 2)).argmax())
        picture = sample.media[0].frames([shown])[0]
        frames.append(outline(picture, truth[shown], found[shown]))
        captions.append(f"IoU {ious[place]:.2f}: {question}")
    return contact_sheet(frames, number, captions)


def outline(picture: Frame, truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> Frame:
    """Draw the true mask (green) and the predicted one (orange) over a picture."""
    return overlay(picture, np.stack([truth, found]), colors=[TRUTH, FOUND], alpha=0.4)
