"""Ask for the objects of each expression on its own, and compare the masks of the answer with the true ones.

Flow: records of a dataset -> Referral, one per expression -> build_benchmark; Referral and its Answer -> score
    -> Record -> rows of pixel counts -> the figures of refcoco.py and the other families.
Source: the released evaluation of Sa2VA, arXiv:2501.04001: every expression is one question without the others.
Shapes: E expressions, N predicted masks, T frames (1 for a picture), H W picture.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sa2va.data.media_files import StoredFrames, StoredVideo
from sa2va.data.referring import Expression, ReferredPicture, ReferringPictures
from sa2va.data.stored import StoredDataset
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Case, Figure, Record, Selection, measure
from sa2va.evaluation.blind import BlindMasks
from sa2va.evaluation.breakdown import facts_of
from sa2va.evaluation.prompts import Wording, question_for, state_protocol
from sa2va.inference.requests import Request
from sa2va.media.source import open_frames
from sa2va.metrics.clip import ClipScore
from sa2va.metrics.interval import Statistic
from sa2va.metrics.iou import Overlap, overlap, ratio
from sa2va.metrics.referring import THRESHOLDS, cumulative_iou
from sa2va.types import FrameSource, MaskTracks

T = TypeVar("T")
PICTURE_BATCH, CLIP_BATCH = 32, 4


@dataclass(frozen=True, kw_only=True)
class Referral:
    """An expression about a picture or clip.

    Attributes:
        id: of the item.
        group: picture or clip, for intervals.
        media: picture or clip.
        tracks: masks of all its objects.
        expression: its text, and the rows of `tracks` that it refers to.
        ignored: one mask of pixels that do not count; None = all count.
        facts: what figures are broken down by, besides the facts of every expression.
        coco: id of the picture in COCO, if it is one.
    """

    id: str
    group: str
    media: FrameSource
    tracks: MaskTracks
    expression: Expression
    ignored: MaskTracks | None = None
    facts: tuple[tuple[str, str], ...] = ()
    coco: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) px."""
        return self.media.height, self.media.width

    @property
    def num_frames(self) -> int:
        return self.media.num_frames or 1

    def truth(self, frame: int) -> NDArray[np.bool_]:
        """Decode the union of the referents on a frame, (H, W); empty without a referent."""
        if not self.expression.objects:
            return np.zeros(self.size, bool)
        return np.asarray(self.tracks.masks(self.expression.objects, [frame])[:, 0].any(0))

    def ignored_at(self, frame: int) -> NDArray[np.bool_] | None:
        """Decode the pixels of a frame that do not count, (H, W)."""
        return None if self.ignored is None else self.ignored.masks([0], [frame])[0, 0]

    def question(self, wording: Wording) -> str:
        """Return the question for the expression."""
        return question_for(self.expression, wording, is_clip=self.num_frames > 1)

    def open(self) -> Any:
        """Return the media as a request takes it: a path, or what decodes frames when they are read."""
        if isinstance(self.media, StoredFrames):
            paths = self.media.paths
            return paths[0] if len(paths) == 1 else open_frames(paths, self.group)
        if isinstance(self.media, StoredVideo) and self.media.every == 1:
            return self.media.path
        return self.media.frames(range(self.num_frames))


def of_picture(record: ReferredPicture, *, is_coco: bool = False) -> list[Referral]:
    """List the expressions of a picture; ids are IMAGE/EXPRESSION."""
    return [
        Referral(
            id=f"{record.image_id}/{one.id}",
            group=str(record.image_id),
            media=record.picture,
            tracks=record.tracks,
            expression=one,
            ignored=record.ignored,
            coco=int(record.image_id) if is_coco else None,
        )
        for one in record.expressions
    ]


def list_referrals(
    dataset: StoredDataset[T], records: Iterable[T], list_each: Callable[[T], Iterable[Referral]]
) -> list[Referral]:
    """List the expressions of records of a dataset.

    Raises:
        ValueError: two expressions have the same id.
    """
    found: dict[str, Referral] = {}
    for record in records:
        for one in list_each(record):
            if one.id in found:
                raise ValueError(
                    f"dataset {dataset.name}, {dataset.describe(record)}: expression {one.id} is there twice; "
                    "expected different ids"
                )
            found[one.id] = one
    return list(found.values())


def build_benchmark(
    title: str,
    referrals: Sequence[Referral],
    selection: Selection,
    summarize: Callable[[list[Record]], list[Figure]],
    *,
    metrics: str,
    blind: BlindMasks | None = None,
) -> Benchmark[Referral]:
    """Build a benchmark of expressions.

    Args:
        title: heading in the report.
        referrals: all expressions of the split.
        selection: which of them are asked, and how.
        summarize: records -> figures.
        metrics: for the protocol, in words.
        blind: masks made without looking.
    """
    chosen = [referrals[index] for index in selection.choose(len(referrals))]
    masks = blind or BlindMasks()
    is_clips = chosen[0].num_frames > 1
    return Benchmark(
        title=title,
        ids=[one.id for one in chosen],
        load=chosen.__getitem__,
        ask=lambda item: [Request(media=item.open(), prompt=item.question(selection.prompts))],
        score=lambda item, answers: score(item, answers, masks),
        summarize=summarize,
        batch_size=CLIP_BATCH if is_clips else PICTURE_BATCH,
        show=show,
        protocol=state_protocol(selection.prompts, metrics),
    )


def build_pictures(
    title: str,
    dataset: ReferringPictures,
    selection: Selection,
    summarize: Callable[[list[Record]], list[Figure]],
    metrics: str,
    blind: BlindMasks,
) -> Benchmark[Referral]:
    """Build a benchmark of the expressions of COCO pictures; for the arguments see `build_benchmark`."""
    referrals = list_referrals(dataset, dataset.records, partial(of_picture, is_coco=True))
    return build_benchmark(f"{title} {selection.split}", referrals, selection, summarize, metrics=metrics, blind=blind)


def score(item: Referral, answers: Sequence[Answer], blind: BlindMasks) -> Record:
    """Count the pixels of the answer, of its first mask and of blind masks against the truth, over all frames.

    The answer about a clip also gets its J&F, the mean over frames.

    Raises:
        ValueError: the masks of the answer are not of the size and length of the media.
    """
    (answer,) = answers
    if answer.size != item.size or answer.num_frames != item.num_frames:
        raise ValueError(
            f"item {item.id}: the answer has {answer.num_frames} masks of {answer.size[1]}x{answer.size[0]} px; "
            f"expected {item.num_frames} of {item.size[1]}x{item.size[0]}, as its picture or clip"
        )
    guesses = blind.draw(item.size, crc32(item.id.encode()))
    totals, clip = np.zeros((2 + len(guesses), len(Overlap._fields)), np.int64), ClipScore()
    for frame in range(item.num_frames):
        truth, ignored = item.truth(frame), item.ignored_at(frame)
        found = answer.masks_at(frame)
        united = np.asarray(found.any(0))
        first = found[0] if len(found) else np.zeros(item.size, bool)
        totals += [overlap(mask, truth, ignored) for mask in (united, first, *guesses)]
        if item.num_frames > 1:
            clip.update(united, truth)
    return _record(item, answer, totals) | ({"jf": clip.means()["jf"]} if item.num_frames > 1 else {})


def show(item: Referral, answers: Sequence[Answer], record: Record) -> Case:
    """Show a picture, or the frame of a clip on which the true masks are largest, with the union of all masks."""
    frame = max(range(item.num_frames), key=lambda place: item.truth(place).sum()) if item.num_frames > 1 else 0
    return Case(
        expression=item.expression.text,
        picture=item.media.frames([frame])[0],
        truth=item.truth(frame),
        found=answers[0].union_at(frame),
    )


def _record(item: Referral, answer: Answer, totals: NDArray[np.int64]) -> Record:
    reached = float(ratio(*totals[0, :2]))
    num_targets, num_pixels = len(item.expression.objects), item.num_frames * item.size[0] * item.size[1]
    area = float(totals[0, Overlap._fields.index("target")]) / num_pixels
    record: Record = {
        "group": item.group,
        "expression": item.expression.text,
        "score": reached,
        "overlap": totals[0].tolist(),
        "first": totals[1].tolist(),
        "blind": totals[2:].tolist(),
        "num_objects": len(answer.objects),
        "num_targets": num_targets,
        "presence": max((float(one.presence) for one in answer.objects), default=0.0),
        "present": num_targets > 0,
        "facts": facts_of(item.expression.text, num_targets=num_targets, area=area, **dict(item.facts)),
    }
    if len(answer.objects) == 1 and item.num_frames == 1 and num_targets:
        record |= {"scores": [float(answer.objects[0].scores[0])], "ious": [reached]}
    return record if item.coco is None else record | {"coco": item.coco}


def rows_of(records: Sequence[Record], name: str = "overlap") -> NDArray[np.float64]:
    """Collect pixel counts of the answers, or of their first masks: (E, 4)."""
    return np.array([record[name] for record in records], float).reshape(-1, len(Overlap._fields))


def split_by_target(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Divide records into those whose expression has true pixels, and those whose expression has none."""
    place = Overlap._fields.index("target")
    present, absent = [], []
    for record in records:
        (present if record["overlap"][place] else absent).append(record)
    return present, absent


def measure_overlap(
    name: str,
    records: Sequence[Record],
    statistic: Statistic,
    *,
    blind: BlindMasks | None = None,
    masks: str = "overlap",
) -> Figure:
    """Compute a figure of pixel counts with its interval over pictures or clips.

    Args:
        name: what is measured.
        records: of `score`.
        statistic: of rows (E, 4).
        blind: adds the best of these masks as baseline.
        masks: "overlap" for all masks of an answer, "first" for the first one.
    """
    chance, baseline = None, ""
    if blind is not None and records:
        guesses = np.array([record["blind"] for record in records], float)  # (E, blind masks, 4)
        values = [statistic(guesses[:, place]) for place in range(guesses.shape[1])]
        best = int(np.argmax(values))
        chance, baseline = values[best], blind.names[best]
    groups = [record["group"] for record in records]
    return measure(name, rows_of(records, masks), statistic, groups=groups, chance=chance, baseline=baseline)


def answer_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute cIoU of the first mask only, as the first released evaluation has it, and the share without a mask."""
    refused = np.array([record["num_objects"] == 0 for record in records], float)
    return [
        measure_overlap("cIoU of the first mask", records, cumulative_iou, masks="first"),
        measure("answers without a mask", refused, groups=[record["group"] for record in records]),
    ]


def precision_figures(
    records: Sequence[Record], precision: Callable[[float], Statistic], thresholds: Sequence[float] = THRESHOLDS
) -> list[Figure]:
    """Compute the share of expressions whose IoU reaches each threshold."""
    return [measure_overlap(f"Pr@{threshold}", records, precision(threshold)) for threshold in thresholds]
