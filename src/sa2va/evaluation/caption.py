"""Score captions: texts, masks of grounded captions, and the attributes that descriptions name.

Flow: a benchmark -> *_record per item -> *_figures over records.
Source: AP50, mean IoU over matched pairs and recall of grounded captions as in GLaMM, arXiv:2311.03356; our mean IoU
    counts unmatched objects as 0. METEOR and CIDEr as in COCO's caption evaluation, arXiv:1504.00325.
Shapes: P predicted masks, G true masks of one picture.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Bar, Figure, Record, measure
from sa2va.evaluation.text_similarity import Similarity
from sa2va.masks import RLE
from sa2va.metrics.ap import Detections, average_precision, detections, matched_iou
from sa2va.metrics.captions import check_caption_tools, meteor, score_captions
from sa2va.metrics.grounded import matched_only_iou, num_recalled
from sa2va.metrics.interval import share
from sa2va.metrics.iou import pairwise_rle_iou
from sa2va.metrics.text import attribute_counts, pooled_f1
from sa2va.tokens import PHRASE_TOKENS

ANOTHER_CAPTION = "the caption of another scene"
ANOTHER_MASKS = "the masks of another scene"
_PHRASE = re.compile(f"{re.escape(PHRASE_TOKENS[0])}(.*?){re.escape(PHRASE_TOKENS[1])}", re.DOTALL)


def find_said_phrases(answer: Answer) -> list[str]:
    """Return the phrases of a grounded caption: those between phrase tokens, or else those of its masks."""
    if marked := _PHRASE.findall(answer.text):
        return [" ".join(text.split()) for text in marked]
    named = takewhile(lambda found: found.phrase is not None, answer.objects)
    return [found.phrase or "" for found in named]


def match_masks(answer: Answer, target: Sequence[RLE]) -> NDArray[np.float64]:
    """Compute the IoU of the masks of a picture's answer with the true ones, (P, G)."""
    return pairwise_rle_iou([found.rles[0] for found in answer.objects], target)


def grounded_record(
    answer: Answer, similarity: NDArray[np.float64], blind: NDArray[np.float64] | None = None
) -> Record:
    """Match the masks of a caption with the ground truth.

    Args:
        answer: P masks.
        similarity: (P, G) IoU of its masks with every object of the picture.
        blind: (K, G) IoU of the objects of another picture, as image-blind baseline.
    """
    scores = [float(found.presence * found.scores[0]) for found in answer.objects]
    record = {
        "score": matched_iou(similarity),
        "matched_iou": matched_only_iou(similarity),
        "plain": _to_record(detections(similarity, [1.0] * len(scores))),
        "ranked": _to_record(detections(similarity, scores)),
        "scores": scores,
        "ious": similarity.max(axis=1, initial=0.0).tolist(),
    }
    if blind is not None:
        record["chance_score"] = matched_iou(blind)
        record["chance"] = _to_record(detections(blind, [1.0] * len(blind)))
    return record


def _to_record(found: Detections) -> Record:
    return {"scores": list(found.scores), "hits": list(found.hits), "num_targets": found.num_targets}


def _pictures(records: Sequence[Record], name: str) -> list[Detections]:
    return [Detections(**record[name]) for record in records]


def groups_of(records: Sequence[Record]) -> list[Any]:
    """Return the group of each record, for the bootstrap; records without one are their own."""
    return [record.get("group", place) for place, record in enumerate(records)]


def grounded_figures(
    records: Sequence[Record], *, precision_bar: Bar | None = None, iou_bar: Bar | None = None
) -> list[Figure]:
    """Compute mean IoU and two variants of AP50: every score 1 (as published), ranked by the model's scores."""
    groups = groups_of(records)
    has_chance = bool(records) and "chance" in records[0]
    chance = average_precision(_pictures(records, "chance")) if has_chance else None
    blind = float(np.mean([r["chance_score"] for r in records])) if has_chance else None
    baseline = ANOTHER_MASKS if has_chance else ""

    def precision(name: str, kind: str, bar: Bar | None) -> Figure:
        pictures = _pictures(records, kind)
        return measure(name, pictures, average_precision, groups=groups, chance=chance, baseline=baseline, bar=bar)

    ious = np.array([r["score"] for r in records])
    return [
        precision("AP50, every score 1", "plain", precision_bar),
        precision("AP50, ranked by score", "ranked", None),
        measure("mean IoU, unmatched objects 0", ious, groups=groups, chance=blind, baseline=baseline, bar=iou_bar),
    ]


def recall_record(
    answer: Answer, similarity: NDArray[np.float64], labels: Sequence[str], compare: Similarity, compared_by: str
) -> Record:
    """Count the true phrases that a caption recalls by GLaMM's rule.

    Args:
        answer: P masks and its phrases.
        similarity: (P, G) IoU.
        labels: true phrases, one per object.
        compare: similarity of phrases.
        compared_by: its name.
    """
    said = compare(find_said_phrases(answer), labels)
    return {
        "num_phrases": len(labels),
        "recalled": num_recalled(similarity, said, released=True),
        "recalled_if_paired": num_recalled(similarity, said),
        "compared_by": compared_by,
    }


def glamm_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute the figures of GLaMM: mean IoU over matched pairs, and recall, each as its code and text define it."""
    groups = groups_of(records)
    compared_by = records[0]["compared_by"] if records else "word overlap"

    def recall(name: str, key: str) -> Figure:
        rows = np.array([[r[key], r["num_phrases"]] for r in records], float).reshape(-1, 2)
        return measure(f"recall, {compared_by}{name}", rows, share, groups=groups)

    return [
        measure("mIoU, matched pairs", np.array([r["matched_iou"] for r in records]), groups=groups),
        recall("", "recalled"),
        recall(", 0 where masks and phrases differ in number", "recalled_if_paired"),
    ]


def text_figures(records: Sequence[Record], key: str = "caption", note: str = "") -> list[Figure]:
    """Compute METEOR and CIDEr of all captions together; without Java or pycocoevalcap, figures say so.

    Args:
        records: each with a caption, and its `references`.
        key: field of the caption.
        note: behind the names of the figures.
    """
    names = (f"METEOR{note}", f"CIDEr{note}")
    try:
        check_caption_tools()
    except ValueError as error:
        return [Figure(name=name, value=None, low=None, high=None, num_items=0, note=str(error)) for name in names]
    if not records:
        return [measure(name, []) for name in names]
    scores = score_captions([r[key] for r in records], [r["references"] for r in records])
    groups = groups_of(records)
    return [
        measure(names[0], scores.meteor_statistics, meteor, groups=groups),
        measure(names[1], 100 * scores.cider, groups=groups),  # as papers print it
    ]


Described = Sequence[Mapping[str, str]]  # attributes of each object in a text


def described_record(said: Described, gold: Described, text: str) -> Record:
    """Record the attributes found in a text and those expected."""
    return {"said": [dict(one) for one in said], "gold": [dict(one) for one in gold], "text": text}


def attribute_f1(records: Sequence[Record], bar: Bar | None, name: str, only: Collection[str] | None = None) -> Figure:
    """Compute F1 over all attributes of all objects; the baseline is the description of the next item.

    Args:
        records: of `described_record`.
        bar: threshold, if any.
        name: of the figure.
        only: the attributes that count; None is all.
    """
    rows = np.array([attribute_counts(r["said"], r["gold"], only) for r in records], float).reshape(-1, 3)
    shifted = [*records[1:], *records[:1]]
    blind = [attribute_counts(o["gold"], r["gold"], only) for r, o in zip(records, shifted, strict=True)]
    chance = pooled_f1(np.array(blind, float)) if len(blind) > 1 else None
    counts = rows[rows[:, 1:].any(1)]  # skip items where neither text nor truth has such an attribute
    return measure(name, counts, pooled_f1, chance=chance, baseline=ANOTHER_CAPTION, bar=bar)
