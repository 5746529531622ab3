"""Ask for the objects of expressions in clips, and score the answers frame by frame.

Flow: a reader in data/ -> list_items -> ClipItem -> ask -> answers -> score_expression -> Record -> clip_figures.
    mevis.py, revos.py, refytvos.py, refsav.py and davis.py say which items and figures a benchmark has.
Source: J and F of DAVIS (metrics/boundary.py), averaged over all frames of an expression and over expressions, as the
    released evaluation of Sa2VA does. It counts the mask of the first [SEG] alone; here the union of all masks is the
    main figure, since an answer about a group may have a mask per member, and the first mask is reported beside it.
Shapes: E expressions of an item, N masks of an answer, T frames, H W picture.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.data.catalog import FOLDERS
from sa2va.data.clips import FRAME_SUFFIX, ClipExpression, FrameClip, ReferringClips
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Case, Figure, Record, Selection, measure
from sa2va.evaluation.breakdown import facts_of
from sa2va.evaluation.mask_files import write_clip_masks
from sa2va.evaluation.prompts import Wording, question_for, state_protocol
from sa2va.inference.requests import Request
from sa2va.media.source import Media, open_frames, uniform_indices
from sa2va.metrics.clip import ClipScore
from sa2va.metrics.interval import mean_of_classes

BATCH = 8  # items; those about one clip are tracked together
CURVE_POINTS = 64  # of the scores over time in a record


@dataclass(frozen=True)
class AskedClip:
    """A clip that is opened once for all its expressions."""

    record: FrameClip

    @cached_property
    def media(self) -> Media:
        """Frames, decoded when they are read."""
        files = [self.record.folder / f"{name}{FRAME_SUFFIX}" for name in self.record.frames]
        return open_frames(files, str(self.record.folder))


@dataclass(frozen=True)
class ClipItem:
    """Expressions about a clip that are scored together: one, or for Ref-DAVIS17 those of an annotator."""

    id: str
    clip: AskedClip
    expressions: tuple[ClipExpression, ...]

    @property
    def record(self) -> FrameClip:
        return self.clip.record

    @property
    def is_scored(self) -> bool:
        """Whether its masks are published."""
        return self.record.tracks is not None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) px, of the true masks where they are published."""
        tracks = self.record.tracks
        return (self.clip.media.height, self.clip.media.width) if tracks is None else (tracks.height, tracks.width)

    def truth(self, frame: int) -> NDArray[np.bool_]:
        """Decode the true masks of a frame, (E, H, W): the union of the objects of each expression."""
        assert self.record.tracks is not None
        rows = sorted({row for one in self.expressions for row in one.objects})
        found = self.record.tracks.masks(rows, [frame])[:, 0]
        return np.stack([np.any(found[[rows.index(row) for row in one.objects]], axis=0) for one in self.expressions])

    def foreground(self, frame: int) -> NDArray[np.bool_] | None:
        """Decode the mask of all objects of a frame, (H, W); None if the layout has none."""
        if self.record.foreground is None:
            return None
        return self.record.foreground.masks([0], [frame])[0, 0]


def read_clips(name: str, build: Callable[..., ReferringClips], selection: Selection) -> list[FrameClip]:
    """Read the clips of a split with a reader of data/.

    Args:
        name: of the dataset in data/catalog.py.
        build: function of the reader.
        selection: root of all data, and split.

    Raises:
        ValueError: no root is given, or the data are missing or damaged.
    """
    dataset = build(selection.find(FOLDERS[name]), split=selection.split)
    return [record for record in dataset.records if isinstance(record, FrameClip)]


def list_items(records: Iterable[FrameClip]) -> list[ClipItem]:
    """List an item per expression, in the order of the file."""
    clips = [AskedClip(record) for record in records]
    return [
        ClipItem(f"{clip.record.video}/{one.id}", clip, (one,)) for clip in clips for one in clip.record.expressions
    ]


def build_expressions(
    name: str, title: str, build: Callable[..., ReferringClips], selection: Selection, **more: Any
) -> Benchmark[ClipItem]:
    """Build a benchmark whose items are the expressions of clips; for further arguments see `build_benchmark`."""
    items = list_items(read_clips(name, build, selection))
    return build_benchmark(f"{title} {selection.split}", items, selection, **more)


def build_benchmark(
    title: str,
    items: Sequence[ClipItem],
    selection: Selection,
    *,
    protocol: str,
    summarize: Callable[[list[Record]], list[Figure]] | None = None,
    score: Callable[[ClipItem, Sequence[Answer]], Record] | None = None,
    submit: Callable[[Path, Iterable[tuple[ClipItem, Sequence[Answer]]]], None] = write_clip_masks,
) -> Benchmark[ClipItem]:
    """Build a benchmark of clips.

    Args:
        title: heading in the report.
        items: all items of the split.
        selection: which of them.
        protocol: masks and metric in a line.
        summarize: records -> figures; None = `clip_figures`.
        score: item and its answers -> record; None = `score_expression`.
        submit: writes the files of a server.
    """
    chosen = [items[index] for index in selection.choose(len(items))]
    is_scored = all(item.is_scored for item in chosen)
    if not is_scored:
        score, summarize = describe_answer, answered_figures
        protocol = f"scored by the server of the benchmark from its archive; {protocol}"
    return Benchmark(
        title=title,
        ids=[item.id for item in chosen],
        load=chosen.__getitem__,
        ask=partial(ask, wording=selection.prompts),
        score=score or score_expression,
        summarize=summarize or clip_figures,
        show=show,
        protocol=state_protocol(selection.prompts, protocol, is_clip=True),
        submit=submit,
        scored_elsewhere=not is_scored,
        batch_size=BATCH,
    )


def ask(item: ClipItem, wording: Wording) -> list[Request]:
    """Return a request for each expression of an item."""
    questions = [question_for(one, wording, is_clip=True) for one in item.expressions]
    return [Request(media=item.clip.media, prompt=question) for question in questions]


def describe_answer(item: ClipItem, answers: Sequence[Answer]) -> Record:
    """Record what an answer holds, where only a server can score it."""
    return {
        "group": item.record.video,
        "expression": item.expressions[0].text,
        "num_objects": [len(answer.objects) for answer in answers],
    }


def score_expression(item: ClipItem, answers: Sequence[Answer]) -> Record:
    """Score the answer to one expression frame by frame.

    Returns:
        Means over all frames: "j", "f" and "score" (J&F) of the union of all masks, "first_j" and "first_f" of the
        first mask alone, "a" accuracy and, where the clip has a foreground, "r" robustness. "curve" is J&F over time,
        "worst" the frame of the lowest.
    """
    answer, expression = check_length(item, answers[0]), item.expressions[0]
    united, first = ClipScore(), ClipScore()
    areas = []
    for frame in range(item.record.num_frames):
        masks, truth = answer.masks_at(frame), item.truth(frame)[0]
        united.update(np.any(masks, axis=0), truth, item.foreground(frame))
        if len(masks) > 1:
            first.update(masks[0], truth)
        areas.append(float(truth.mean()))
    means, of_first = united.means(), (first if first.num_frames else united).means()
    curve = (np.array(united.j) + united.f) / 2
    seen = [area for area in areas if area]
    record: Record = {
        "group": item.record.video,
        "expression": expression.text,
        "num_objects": len(answer.objects),
        "num_targets": len(expression.objects),
        "type_id": expression.type_id,
        "facts": facts_of(
            expression.text, num_targets=len(expression.objects), area=float(np.mean(seen)) if seen else 0.0
        ),
        "j": means["j"],
        "f": means["f"],
        "score": means["jf"],
        "first_j": of_first["j"],
        "first_f": of_first["f"],
        "a": means["accuracy"],
        "curve": thin(curve),
        "worst": int(curve.argmin()),
    }
    if "robustness" in means:
        record["r"] = means["robustness"]
    return record | _confidence(answer, united.j, bool(expression.objects))


def show(item: ClipItem, answers: Sequence[Answer], record: Record) -> Case:
    """Show the frame of the lowest score, with the masks of all expressions of the item."""
    frame = record["worst"]
    found = np.stack([answer.union_at(frame) for answer in answers])
    return Case(
        expression=f"{record['expression']} (frame {frame})",
        picture=item.clip.media.frame(frame),
        truth=np.asarray(item.truth(frame).any(0)),
        found=np.asarray(found.any(0)),
    )


def check_length(item: ClipItem, answer: Answer) -> Answer:
    """Return an answer if it has a mask per frame of the clip.

    Raises:
        ValueError: it is about another clip.
    """
    expected, size = item.record.num_frames, item.size
    if (answer.num_frames, tuple(answer.size)) != (expected, size):
        height, width = answer.size
        raise ValueError(
            f"{item.id}: the answer has {answer.num_frames} frames of {width}x{height}, its clip {expected} of "
            f"{size[1]}x{size[0]}; the two do not belong together"
        )
    return answer


def thin(values: NDArray[np.float64]) -> list[float]:
    """Average values over at most CURVE_POINTS even stretches of time."""
    return [round(float(part.mean()), 4) for part in np.array_split(values, min(len(values), CURVE_POINTS))]


def _confidence(answer: Answer, j: Sequence[float], is_there: bool) -> dict[str, Any]:
    """Return what the model expected beside what it reached, for the calibration of an answer with one mask."""
    if len(answer.objects) != 1:
        return {}
    (found,) = answer.objects
    frames = uniform_indices(len(j), CURVE_POINTS)
    return {
        "scores": [round(float(found.scores[frame]), 4) for frame in frames],
        "ious": [round(float(j[frame]), 4) for frame in frames],
        "presence": round(float(found.presence), 4),
        "present": is_there,
    }


# ---- figures


def jf_figures(records: Sequence[Record], of: str = "") -> list[Figure]:
    """Compute J&F, J and F of the union of all masks, and J&F of the first mask alone.

    Args:
        records: of `score_expression`.
        of: which expressions, after a comma in the names.
    """
    groups, end = [one["group"] for one in records], f", {of}" if of else ""
    rows = {key: np.array([one[key] for one in records]) for key in ("j", "f", "first_j", "first_f")}
    return [
        measure(f"J&F{end}", (rows["j"] + rows["f"]) / 2, groups=groups),
        measure(f"J{end}", rows["j"], groups=groups),
        measure(f"F{end}", rows["f"], groups=groups),
        measure(f"J&F{end}, first mask", (rows["first_j"] + rows["first_f"]) / 2, groups=groups),
    ]


def clip_figures(records: list[Record]) -> list[Figure]:
    """Compute the figures over all expressions."""
    return jf_figures(records)


def kind_figures(records: Sequence[Record], kinds: dict[int, str], keys: str = "jfar") -> list[Figure]:
    """Compute the figures of each kind of expression, and their unweighted mean.

    Args:
        records: of `score_expression`.
        kinds: type_id -> name; records of other types are left out.
        keys: of the records, a letter each, to report besides J&F.
    """
    counted = [one for one in records if one["type_id"] in kinds]
    figures = []
    for values, names in [(set(kinds), "")] + [({value}, f", {name}") for value, name in kinds.items()]:
        rows = [one for one in counted if one["type_id"] in values]
        groups = [one["group"] for one in rows]
        for name, key in [("J&F", "score"), *((key.upper(), key) for key in keys)]:
            pairs = np.array([[one["type_id"], one[key]] for one in rows], float).reshape(-1, 2)
            figures.append(measure(f"{name}{names}", pairs, mean_of_classes, groups=groups))
        first = [[one["type_id"], (one["first_j"] + one["first_f"]) / 2] for one in rows]
        pairs = np.array(first, float).reshape(-1, 2)
        figures.append(measure(f"J&F{names}, first mask", pairs, mean_of_classes, groups=groups))
    return figures


def answered_figures(records: list[Record]) -> list[Figure]:
    """Compute the share of expressions that were answered with a mask, where a server has the truth."""
    rows = np.array([float(np.mean([number > 0 for number in one["num_objects"]])) for one in records])
    return [measure("expressions with a mask", rows, groups=[one["group"] for one in records])]
