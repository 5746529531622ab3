"""Answer the items of benchmarks of clips with given masks."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from support.fake_answers import fake
from support.stored_clips import write_davis, write_mevis, write_refsav_valid, write_refytvos, write_revos

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Figure, Selection, values_only
from sa2va.evaluation.benchmarks.clips import ClipItem
from sa2va.evaluation.catalog import rebuild


def answer_with(masks: np.ndarray, score: ArrayLike = 1.0) -> Answer:
    """Return an answer of N masks, (N, T, H, W)."""
    return Answer.of(fake("[SEG]" * len(masks), masks, score=score))


def true_masks(item: ClipItem) -> np.ndarray:
    """Return the true masks of an item, (E, T, H, W)."""
    return np.stack([item.truth(frame) for frame in range(item.record.num_frames)], axis=1)


def answer_right(item: ClipItem) -> list[Answer]:
    """Answer each expression with its true mask, or with none if nothing is there."""
    pairs = zip(item.expressions, true_masks(item), strict=True)
    return [answer_with(masks[None] if one.objects else masks[None][:0]) for one, masks in pairs]


def items_of(benchmark: Benchmark[ClipItem]) -> list[ClipItem]:
    return [benchmark.load(index) for index in range(len(benchmark))]


def figures_of(benchmark: Benchmark[ClipItem], answers: list[list[Answer]]) -> dict[str, Figure]:
    """Score answers, one list per item, and return the figures by name."""
    records = [benchmark.score(item, several) for item, several in zip(items_of(benchmark), answers, strict=True)]
    with values_only():
        return {figure.name: figure for figure in benchmark.summarize(records)}


def build_clips(name: str, root: Path, limit: int | None = None) -> Benchmark[ClipItem]:
    """Write the small data of a benchmark below a root, and build it."""
    family, split = name.split("/")
    if family == "mevis":
        write_mevis(root / "video_datas/mevis", split)
    elif family == "refytvos":
        write_refytvos(root / "video_datas/rvos", masks="none", split=split)
    elif family == "ref_davis17":
        write_davis(root / "video_datas/davis17")
    elif family == "revos":
        write_revos(root / "video_datas/revos")
    else:
        write_refsav_valid(root / "ref_sav_eval")
    return rebuild(name, Selection(split="", root=root, limit=limit))
