"""Benchmark region captions on RefCOCOg: a short description of a marked region, compared with an expression for it.

Flow: data/region_caption.py, split val -> one item per expression -> METEOR and CIDEr, of the answer as it is and of
    the answer as the released code cleans it.
Source: the evaluation of Sa2VA, arXiv:2501.04001, on the file of Osprey, arXiv:2312.10032: every expression is an item
    with one reference, so that a region with two expressions is asked twice.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from sa2va.data.region_caption import DescribedRegion, region_caption
from sa2va.evaluation import caption as captions
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection
from sa2va.evaluation.breakdown import facts_of
from sa2va.evaluation.prompts import REGION
from sa2va.inference.requests import Request
from sa2va.metrics.text import plain_text

_COCO_ID = re.compile(r"\d{12}$")  # end of the file name of a picture of COCO
PLACE = "region_caption/refcocog/finetune_refcocog_{split}_with_mask.json"
SPLITS = ("val",)
# What the released code deletes from an answer, in this order and also within words: "this" becomes "th".
_DELETED = (
    "region1", "Region1", "The region marked by", "The region marked as", "The region marked", "is", "shows", ":"
)  # fmt: skip


def refcocog(selection: Selection) -> Benchmark[DescribedRegion]:
    """Build the benchmark of one split.

    Raises:
        ValueError: data is missing or damaged.
    """
    records = region_caption(selection.find("region_caption"), split=selection.split).records
    chosen = selection.choose(len(records))
    prompt = REGION[selection.prompts]
    return Benchmark(
        title=f"Region captions, RefCOCOg {selection.split}",
        ids=[str(records[place].region_id) for place in chosen], load=lambda index: records[chosen[index]],
        ask=lambda item: [Request(media=Path(item.picture), prompt=prompt, regions=[item.region])],
        score=score, summarize=summarize,
        protocol=f'prompt {prompt!r} with the mask as region1; one reference per item; METEOR, CIDEr',
    )  # fmt: skip


def score(item: DescribedRegion, answers: Sequence[Answer]) -> Record:
    """Keep the description as it is and as the released code cleans it."""
    (answer,) = answers
    said = plain_text(answer.text)
    coco = _COCO_ID.search(Path(item.picture).stem)
    record = {
        "group": Path(item.picture).name,
        "caption": said,
        "cleaned": clean_as_released(said),
        "references": [item.caption],
        "expression": item.caption,
        "facts": facts_of(item.caption, area=float(item.region.mean())),
    }
    return record | {"coco": int(coco[0])} if coco else record


def clean_as_released(text: str) -> str:
    """Delete from a description what the released evaluation deletes before it compares."""
    for part in _DELETED:
        text = text.replace(part, "")
    return " ".join(re.sub(r"<.*?>", "", text).split()).strip("'").strip()


def summarize(records: Sequence[Record]) -> list[Figure]:
    """Compute METEOR and CIDEr of both forms of the answers."""
    return [
        *captions.text_figures(records),
        *captions.text_figures(records, "cleaned", ", answers cleaned as released"),
    ]
