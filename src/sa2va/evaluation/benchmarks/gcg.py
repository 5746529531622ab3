"""Benchmark grounded captions on GranD-f: a caption of a picture, and a mask for each of its phrases.

Flow: data/gcg.py, splits val and test -> one item per picture -> figures of masks, phrases and captions. The answers
    are also written in the layout of the released code, one JSON file per picture, for its scorer.
Source: GLaMM, arXiv:2311.03356, and its public scorer; the metrics are those of evaluation/caption.py.
"""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sa2va.data.gcg import GroundedCaption, gcg_grandf
from sa2va.data.tracks import decode_segmentation, encode_segmentation
from sa2va.evaluation import caption as captions
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Case, Figure, Record, Selection
from sa2va.evaluation.breakdown import facts_of
from sa2va.evaluation.prompts import GROUNDED_CAPTION
from sa2va.evaluation.text_similarity import Similarity, find_similarity
from sa2va.files.atomic import write_text
from sa2va.inference.requests import Request
from sa2va.masks import area
from sa2va.metrics.text import plain_text

PLACE = "glamm_data/annotations/gcg_val_test/{split}_gcg_coco_mask_gt.json"
SPLITS = ("val", "test")


def gcg(selection: Selection) -> Benchmark[GroundedCaption]:
    """Build the benchmark of one split.

    Raises:
        ValueError: data is missing or damaged, or SA2VA_BERT names no model.
    """
    dataset = gcg_grandf(selection.find("glamm_data"), split=selection.split)
    chosen = selection.choose(len(dataset))
    name, compare = find_similarity()
    prompt = GROUNDED_CAPTION[selection.prompts]
    return Benchmark(
        title=f"Grounded captions, GranD-f {selection.split}",
        ids=[dataset.records[place].image_id for place in chosen], load=lambda index: dataset.records[chosen[index]],
        ask=lambda item: [Request(media=Path(item.picture), prompt=prompt)],
        score=partial(score, compare=compare, compared_by=name), summarize=summarize,
        protocol=f'prompt {prompt!r}; a mask per [SEG]; COCO AP50, GLaMM mIoU and recall, METEOR, CIDEr',
        submit=write_answers, show=show,
    )  # fmt: skip


def score(item: GroundedCaption, answers: Sequence[Answer], *, compare: Similarity, compared_by: str) -> Record:
    """Score masks and phrases of an answer, and keep its caption.

    Raises:
        ValueError: a mask of the annotation is damaged, or the answer is about a picture of another size.
    """
    (answer,) = answers
    try:
        target = [encode_segmentation(one, *answer.size) for one in item.objects]
        similarity = captions.match_masks(answer, target)
    except ValueError as error:
        raise ValueError(f"GCG, image {item.image_id}: {error}") from error
    share = sum(map(area, target)) / (answer.size[0] * answer.size[1])
    return {
        "group": item.image_id,
        "caption": plain_text(answer.text),
        "references": list(item.references),
        "facts": facts_of(num_targets=len(target), area=min(share, 1.0)),
        **captions.grounded_record(answer, similarity),
        **captions.recall_record(answer, similarity, item.labels, compare, compared_by),
    }


def show(item: GroundedCaption, answers: Sequence[Answer], record: Record) -> Case:
    """Return the picture with all true and all predicted masks, and both captions."""
    (answer,) = answers
    truth = np.zeros(answer.size, bool)
    for one in item.objects:
        truth |= decode_segmentation(one, *answer.size)
    return Case(
        expression=item.references[0], picture=item.media.frames([0])[0], truth=truth, found=answer.union_at(0),
        text=record["caption"],
    )  # fmt: skip


def summarize(records: Sequence[Record]) -> list[Figure]:
    """Compute all figures; the first one is that of the papers' tables."""
    return [
        *captions.grounded_figures(records),
        *captions.glamm_figures(records),
        *captions.text_figures(records),
    ]


def write_answers(folder: Path, answered: Iterable[tuple[GroundedCaption, Sequence[Answer]]]) -> None:
    """Write one JSON file per picture as the released code does: image_id, caption, phrases, pred_masks."""
    for item, (answer,) in answered:
        values = {
            "image_id": item.image_id,
            "caption": plain_text(answer.text),
            "phrases": captions.find_said_phrases(answer),
            "pred_masks": [found.rles[0] for found in answer.objects],
        }
        write_text(folder / f"{item.image_id}.json", json.dumps(values))
