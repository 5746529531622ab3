"""Measure a model on held-out data before and after fine-tuning, and draw its best and worst answers.

Flow: base model, adapter -> benchmarks/own.py on the same records -> figures and their difference -> report;
    the answers of the highest and lowest IoU -> a contact sheet.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sa2va.draw.overlay import contact_sheet, draw_answer
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Answers, Benchmark, Record
from sa2va.evaluation.benchmarks.expressions import Referral
from sa2va.evaluation.compare import Change
from sa2va.types import Frame

NUM_SHOWN = 6  # best answers, and as many worst ones
CHANGED = ("cIoU", "mean IoU")  # figures whose difference is tested


def compare(benchmark: Benchmark[Referral], before: Sequence[Record], after: Sequence[Record]) -> dict[str, Any]:
    """Report the figures before and after, and their paired differences over expressions of what is there.

    Raises:
        ValueError: the two were measured on other expressions.
    """
    asked = [[(record["group"], record["expression"]) for record in records] for records in (before, after)]
    if asked[0] != asked[1]:
        raise ValueError("held-out data changed since the first measurement; choose another folder")
    old, new = ({one.name: one for one in benchmark.summarize(list(records))} for records in (before, after))
    return {
        "num_records": len({record["group"] for record in before}),
        "num_expressions": len(before),
        "before": [figure.to_dict() for figure in old.values()],
        "after": [figure.to_dict() for figure in new.values()],
        "change": {name: Change.of(old[name], new[name]).to_dict() for name in CHANGED},
    }


def draw_best_and_worst(predictor: Answers, benchmark: Benchmark[Referral], records: Sequence[Record]) -> Frame:
    """Draw the answers of the highest and lowest IoU: the true mask and the predicted one, on their largest frame.

    Args:
        predictor: answers them again.
        benchmark: of `benchmarks.own.held_out`.
        records: its records, one per item.
    """
    assert benchmark.ask is not None
    there = [place for place, record in enumerate(records) if record["present"]]
    order = sorted(there, key=lambda place: -records[place]["score"])
    number = min(NUM_SHOWN, max(1, len(order) // 2))
    chosen = [*order[:number], *order[len(order) - number :]] if len(order) > 1 else order
    frames, captions = [], []
    for place in chosen:
        item = benchmark.load(place)
        answer = Answer.of(predictor.predict_batch(benchmark.ask(item), benchmark.options)[0])
        shown = int(np.argmax([item.truth(frame).sum() for frame in range(item.num_frames)]))
        picture = item.media.frames([shown])[0]
        frames.append(draw_answer(picture, item.truth(shown), answer.union_at(shown)))
        captions.append(f"IoU {records[place]['score']:.2f}: {item.expression.text}")
    return contact_sheet(frames, number, captions)
