"""Benchmark on Ref-DAVIS17: per expression, and by the two protocols of DAVIS itself.

Flow: data/davis.py -> an item per clip and annotator, with an expression per object -> clips.ask -> score -> figures.
Source: Khoreva et al., arXiv:1803.08006; DAVIS 2017, arXiv:1704.00675, and its official code. Three protocols give
    three figures of the same masks:
    - per expression, as the released evaluation of Sa2VA: a binary mask for each expression, all frames count;
    - official: the objects of an annotator are merged into one index mask, a pixel belonging to the mask of the highest
      score, the first and the last frame are left out, and J&F, recall and decay are means over objects, then over
      annotators;
    - matched, as most papers on referring run the official code (task "unsupervised"): merged likewise, all frames
      count, and each true object is compared with the predicted one that fits it best, whatever was asked.
Shapes: E expressions of an item (one per object), N masks of an answer, T frames, H W picture.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va.data import davis
from sa2va.data.clips import FrameClip
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection, measure
from sa2va.evaluation.benchmarks.clips import (
    AskedClip,
    ClipItem,
    build_benchmark,
    check_length,
    read_clips,
    thin,
)
from sa2va.evaluation.breakdown import facts_of
from sa2va.evaluation.mask_files import ANNOTATOR, write_index_masks
from sa2va.extras import needs
from sa2va.metrics.boundary import boundary_f, jaccard
from sa2va.metrics.clip import series_statistics
from sa2va.metrics.interval import mean_of_classes

NUM_ANNOTATORS = 4
STATISTICS = ("", " recall", " decay")  # of DAVIS, over the frames of an object
SPLITS = ("valid",)
PROTOCOL = (
    "J&F per expression over all frames; official: objects of an annotator merged by the highest "
    "score per pixel, without the first and last frame, mean over objects and annotators; matched: merged, all frames, "
    "objects matched by J&F"
)


def build(selection: Selection) -> Benchmark[ClipItem]:
    """Build the benchmark of the split "valid".

    Raises:
        ValueError: the data are missing or damaged.
    """
    _require_scipy()  # before any model time is spent
    records = read_clips("ref_davis17", davis.build, selection)
    title = f"Ref-DAVIS17 {selection.split}"
    benchmark = build_benchmark(
        title, list_annotators(records), selection, protocol=PROTOCOL, summarize=summarize, score=score,
        submit=write_annotators,
    )  # fmt: skip
    return replace(benchmark, batch_size=NUM_ANNOTATORS)  # all about one clip


def list_annotators(records: Iterable[FrameClip]) -> list[ClipItem]:
    """List an item per clip and annotator, with the expressions of all objects in the order of their numbers."""
    items = []
    for record in records:
        clip = AskedClip(record)
        for annotator in sorted({one.annotator for one in record.expressions if one.annotator is not None}):
            own = [one for one in record.expressions if one.annotator == annotator]
            own.sort(key=lambda one: one.number or 0)
            items.append(ClipItem(f"{record.video}/{ANNOTATOR.format(annotator)}", clip, tuple(own)))
    return items


def merge(answers: Sequence[Answer], frame: int) -> NDArray[np.bool_]:
    """Give each pixel to the object whose mask has the highest score there.

    Args:
        answers: E answers, one per object.
        frame: index.

    Returns:
        (E, H, W); of equal scores the first object wins.
    """
    values = []
    for answer in answers:
        masks = answer.masks_at(frame)  # (N, H, W)
        scores = np.array([1 + float(one.scores[frame]) for one in answer.objects])  # above 0, the background
        values.append((masks * scores[:, None, None]).max(0, initial=0.0))
    best = np.stack(values)
    return (best.argmax(0) == np.arange(len(best))[:, None, None]) & (best > 0)


def score(item: ClipItem, answers: Sequence[Answer]) -> Record:
    """Score the answers about the objects of an annotator by all three protocols.

    Returns:
        Per object, in the order of their numbers, [J, F]: "expressions", "first" (their first mask alone), "official"
        with its recall and decay, and "matched".
    """
    answers = [check_length(item, answer) for answer in answers]
    num_frames, number = item.record.num_frames, len(item.expressions)
    alone = np.zeros((num_frames, number, 2))  # J and F
    first = np.zeros_like(alone)
    pairs = np.zeros((num_frames, number, number, 2))  # predicted, true
    areas = np.zeros(num_frames)
    for frame in range(num_frames):
        truth, merged = item.truth(frame), merge(answers, frame)
        areas[frame] = truth.any(0).mean()
        for place, answer in enumerate(answers):
            masks = answer.masks_at(frame)
            united = np.any(masks, axis=0)
            alone[frame, place] = _compare(united, truth[place])
            first[frame, place] = _compare(masks[0], truth[place]) if len(masks) > 1 else alone[frame, place]
            for other, true in enumerate(truth):
                is_known = other == place and np.array_equal(united, merged[place])  # nothing lost to another object
                pairs[frame, place, other] = alone[frame, place] if is_known else _compare(merged[place], true)
    series = np.einsum("teem->emt", pairs)  # (E, 2, T), each object with its own truth
    official = np.array([[series_statistics(values, whole=num_frames < 3) for values in both] for both in series])
    everywhere = pairs.mean(0)
    matched = everywhere[_require_scipy()(-everywhere.mean(-1))]
    overall = alone.mean((1, 2))
    return {
        "group": item.record.video,
        "annotator": item.expressions[0].annotator,
        "expression": "; ".join(one.text for one in item.expressions),
        "num_objects": [len(answer.objects) for answer in answers],
        "facts": facts_of(num_targets=number, area=float(areas[areas > 0].mean()) if areas.any() else None),
        "expressions": alone.mean(0).tolist(),
        "first": first.mean(0).tolist(),
        **{f"official{name}": official[:, :, place].tolist() for place, name in enumerate(STATISTICS)},
        "matched": matched.tolist(),
        "score": float(overall.mean()),
        "curve": thin(overall),
        "worst": int(overall.argmin()),
    }


def _require_scipy() -> Callable[[NDArray[np.float64]], tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the function that assigns rows to columns at the lowest total cost."""
    with needs("eval"):
        from scipy.optimize import linear_sum_assignment
    return linear_sum_assignment


def _compare(pred: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    return float(jaccard(pred, truth)), float(boundary_f(pred, truth))


def summarize(records: list[Record]) -> list[Figure]:
    """Compute J&F, J and F by each protocol."""
    figures = []
    for key, of in (("expressions", ""), ("official", ", official"), ("matched", ", matched")):
        rows, groups = _rows(records, key)
        for name, values in (("J&F", rows[:, 1:].mean(1)), ("J", rows[:, 1]), ("F", rows[:, 2])):
            pairs = np.stack([rows[:, 0], values], axis=1)
            if key == "expressions":
                figures.append(measure(f"{name}{of}", values, groups=groups))
            else:
                figures.append(measure(f"{name}{of}", pairs, mean_of_classes, groups=groups))
    for statistic in STATISTICS[1:]:
        rows, groups = _rows(records, f"official{statistic}")
        for name, column in (("J", 1), ("F", 2)):
            figures.append(
                measure(f"{name}{statistic}, official", rows[:, [0, column]], mean_of_classes, groups=groups)
            )
    rows, groups = _rows(records, "first")
    return [*figures, measure("J&F, first mask", rows[:, 1:].mean(1), groups=groups)]


def _rows(records: Sequence[Record], key: str) -> tuple[NDArray[np.float64], list[str]]:
    """Collect (E, 3), annotator, J and F of every object, and the clip of each row."""
    rows = [(one["annotator"], *pair) for one in records for pair in one[key]]
    return np.array(rows, float).reshape(-1, 3), [one["group"] for one in records for _ in one[key]]


def write_annotators(folder: Path, answered: Iterable[tuple[ClipItem, Sequence[Answer]]]) -> None:
    """Write the folders of the official code: anno_<k>/<clip>/<frame>.png, pixels being numbers of objects."""
    for item, answers in answered:
        place = folder / ANNOTATOR.format(item.expressions[0].annotator) / item.record.video
        numbers = np.array([one.number or 0 for one in item.expressions], np.uint8)[:, None, None]
        frames = ((merge(answers, frame) * numbers).max(0) for frame in range(item.record.num_frames))
        write_index_masks(place, item.record.frames, frames)
