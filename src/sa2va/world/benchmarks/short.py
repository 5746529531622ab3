"""Define the benchmarks on synthetic scenes: items, requests, scores.

Flow: world/tasks (Sample and its meta) -> one Benchmark per task -> world/extension.py lists them.
Shapes: M objects of a scene, T frames, H W picture.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.evaluation import caption as captions
from sa2va.evaluation import conversation as conversations
from sa2va.evaluation import referring as masks
from sa2va.evaluation import video as tracks
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Bar, Benchmark, Figure, Record, ask_each, ask_first
from sa2va.inference.requests import Options
from sa2va.metrics.iou import pairwise_iou
from sa2va.metrics.text import plain_text
from sa2va.types import Masks, Sample
from sa2va.world.benchmarks.drawn import drawn, numbers
from sa2va.world.language.descriptions import parse_descriptions
from sa2va.world.language.expressions import CLIP_KINDS, KINDS
from sa2va.world.language.grammar import to_motion_words
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.splits import RESERVED, Split
from sa2va.world.tasks import catalog as tasks
from sa2va.world.tasks.items import draw_item, render_item
from sa2va.world.tasks.referring import BALANCED

REFERRING_KINDS = ("attribute", "place", "relation", "ordinal", "superlative", "negation")  # that refer to one object
NUM_KEYFRAMES = 4  # key frames of a clip
_CLIP_BATCH = 8
_SHORT = Options(max_new_tokens=48)
_LONG = Options(max_new_tokens=256)
_CLIP_SHORT = replace(_SHORT, num_keyframes=NUM_KEYFRAMES)
_CLIP_LONG = replace(_LONG, num_keyframes=NUM_KEYFRAMES)
PASSES = "passes behind"  # the only motion with a full occlusion
_PASSERS_FROM, _PASSERS_STEP = 10_000_000, 1000  # first clip searched for PASSES; number of clips searched per item
_KEPT = 64  # cached samples, so that an item and its neighbor are rendered once


def keep(load: Callable[[int], Sample]) -> Callable[[int], Sample]:
    """Cache the last samples of a loader."""
    return lru_cache(maxsize=_KEPT)(load)


def draw(task: str, split: Split, **options: Any) -> Callable[[int], Sample]:
    """Return the loader of the items of a task."""
    return partial(tasks.TASKS[task], split.seed, split.name, **options)


def refer(task: str, split: Split, index: int, *, shares: Mapping[str, float] | None = None, **options: Any) -> Sample:
    """Generate an item with one expression; its kind is sampled by `shares`, unless `options` gives it."""
    if shares is not None:
        weights = np.array(list(shares.values()))
        kind = np.random.default_rng([split.seed, index]).choice(list(shares), p=weights / weights.sum())
        options["kind"] = str(kind)
    return draw(task, split, num_turns=1, empty_share=0.0, **options)(index)


def true_mask(sample: Sample) -> NDArray[np.bool_]:
    """Return the ground-truth mask of the first expression: (T, H, W), empty if it refers to nothing."""
    targets = sample.meta["targets"][0]
    return np.any(sample.masks[list(targets)], axis=0) if targets else np.zeros(sample.frames.shape[:3], bool)


def scene_masks(sample: Sample) -> Masks:
    """Return the visible pixels of every object of the scene: (M, T, H, W)."""
    return render_item(sample.meta["scene"], sample.task.removeprefix("world/")).masks


# ---- referring segmentation


def _referring(
    name: str,
    title: str,
    num_items: int,
    load: Callable[[int], Sample],
    summarize: Callable[[list[Record]], list[Figure]],
) -> Benchmark:
    def score(sample: Sample, answers: Sequence[Answer]) -> Record:
        number = len(sample.meta["targets"][0])
        record = masks.overlap_record(answers[0], true_mask(sample), scene_masks(sample), number)
        return record | {"kind": sample.meta["kinds"][0], "said": answers[0].text}

    return Benchmark(
        name=name, title=title, ids=numbers(num_items), load=load, ask=ask_first, score=score, summarize=summarize,
        options=_SHORT,
    )  # fmt: skip


_ONE_OBJECT = {kind: KINDS[kind] for kind in REFERRING_KINDS}


@drawn
def referring(split: Split, num_items: int) -> Benchmark:
    """Benchmark referring segmentation of one object whose color-shape pair occurs in training."""
    load = partial(refer, "refseg", split, shares=_ONE_OBJECT, require_heldout=False)
    summarize = partial(masks.overlap_figures, name="seen pairs", ciou_bar=Bar(0.75))
    return _referring("world/referring", "Referring segmentation, seen pairs", num_items, load, summarize)


@drawn
def heldout(split: Split, num_items: int) -> Benchmark:
    """Benchmark referring segmentation of one object whose color-shape pair is held out of training."""
    load = partial(refer, "refseg", split, shares=_ONE_OBJECT, require_heldout=True)
    summarize = partial(masks.overlap_figures, name="held-out pairs", ciou_bar=Bar(0.60))
    return _referring("world/heldout", "Referring segmentation, held-out pairs", num_items, load, summarize)


@drawn
def reserved(split: Split, num_items: int) -> Benchmark:
    """Benchmark referring segmentation of one object whose color-shape pair is reserved for this benchmark."""
    load = partial(refer, "refseg", Split(RESERVED, split.seed), shares=_ONE_OBJECT, require_heldout=True)
    summarize = partial(masks.overlap_figures, name="reserved pairs")
    return _referring("world/reserved", "Referring segmentation, reserved pairs", num_items, load, summarize)


@drawn
def kinds(split: Split, num_items: int) -> Benchmark:
    """Benchmark referring segmentation of one object, with equal numbers of each kind of expression."""

    def load(index: int) -> Sample:
        return refer("refseg", split, index, kind=REFERRING_KINDS[index % len(REFERRING_KINDS)], require_heldout=False)

    title = "Referring segmentation per kind of expression"
    summarize = partial(masks.kind_figures, kinds=REFERRING_KINDS)
    return _referring("world/kinds", title, num_items, load, summarize)


@drawn
def groups(split: Split, num_items: int) -> Benchmark:
    """Benchmark referring segmentation of several objects with one expression."""
    load = partial(refer, "refseg", split, kind="group")
    return _referring("world/groups", "Groups", num_items, load, masks.group_figures)


@drawn
def absent(split: Split, num_items: int) -> Benchmark:
    """Benchmark recognition of absent objects. Half of the objects are present. An empty mask means "absent"."""

    def score(sample: Sample, answers: Sequence[Answer]) -> Record:
        present, answer = sample.meta["present"][0], answers[0]
        said = bool(answer.masks.any())
        unseen = sample.meta["names_unseen"][0]
        return {
            "present": present, "said": said, "form": sample.meta["forms"][0], "unseen": unseen, "text": answer.text
        }  # fmt: skip

    return Benchmark(
        name="world/absent", title="Absent objects", ids=numbers(num_items),
        load=partial(refer, "refseg", split, kind=BALANCED), ask=ask_first, score=score,
        summarize=masks.absent_figures, options=_SHORT,
    )  # fmt: skip


@drawn
def calibration(split: Split, num_items: int) -> Benchmark:
    """Benchmark calibration of presence and scores on the requests of `absent`, with exactly one mask each."""

    def score(sample: Sample, answers: Sequence[Answer]) -> Record:
        return masks.probe_record(answers[0], true_mask(sample), sample.meta["present"][0])

    return Benchmark(
        name="world/calibration", title="Calibration", ids=numbers(num_items),
        load=partial(refer, "refseg", split, kind=BALANCED), ask=ask_first, score=score,
        summarize=masks.calibration_figures, options=_SHORT, forced=True,
    )  # fmt: skip


# ---- conversation


def _conversation(name: str, title: str, split: Split, num_items: int, task: str, bar: Bar) -> Benchmark:
    def score(sample: Sample, answers: Sequence[Answer]) -> Record:
        return conversations.answers_record(answers, sample.meta["answers"], sample.meta["kinds"])

    is_clip = task.startswith("video")
    return Benchmark(
        name=name, title=title, ids=numbers(num_items), load=draw(task, split), ask=ask_each,
        score=score, summarize=partial(conversations.answer_figures, bar=bar),
        options=_CLIP_SHORT if is_clip else _SHORT, batch_size=_CLIP_BATCH,
    )  # fmt: skip


@drawn
def conversation(split: Split, num_items: int) -> Benchmark:
    """Benchmark question answering about a picture; every question is asked by itself."""
    return _conversation("world/conversation", "Conversation", split, num_items, "conversation", Bar(0.90))


@drawn
def video_conversation(split: Split, num_items: int) -> Benchmark:
    """Benchmark question answering about a clip; every question is asked by itself."""
    title = "Video conversation"
    return _conversation("world/video_conversation", title, split, num_items, "video_conversation", Bar(0.80))


# ---- descriptions


def read_objects(text: str, *, moving: bool = False) -> list[dict[str, str]]:
    """Parse the attributes of each object that a text describes.

    Args:
        text: a caption or an answer.
        moving: also parse the motion of each object.
    """
    found = []
    for piece in re.split(r",|\band\b", plain_text(text).lower()):
        for described in parse_descriptions(piece):
            said = {name: word for name, word in described.items() if word is not None}
            motion = next((k for k in MOTIONS if " ".join(to_motion_words(k)) in piece), None) if moving else None
            found.append(said | ({"motion": motion} if motion else {}))
    return found


def _described(
    name: str,
    title: str,
    num_items: int,
    load: Callable[[int], Sample],
    summarize: Callable[[list[Record]], list[Figure]],
    *,
    moving: bool = False,
) -> Benchmark:
    def score(sample: Sample, answers: Sequence[Answer]) -> Record:
        text, gold = answers[0].text, sample.meta["answers"][0]
        said = read_objects(text, moving=moving)
        return captions.described_record(said, read_objects(gold, moving=moving), text)

    return Benchmark(
        name=name, title=title, ids=numbers(num_items), load=load, ask=ask_first, score=score, summarize=summarize,
        options=_CLIP_LONG if moving else _LONG, batch_size=_CLIP_BATCH if moving else 32,
    )  # fmt: skip


def _look_figures(records: list[Record]) -> list[Figure]:
    return [captions.attribute_f1(records, Bar(0.85), "attribute F1")]


def _motion_figures(records: list[Record]) -> list[Figure]:
    return [
        captions.attribute_f1(records, Bar(0.85), "attribute F1, motion included"),
        captions.attribute_f1(records, None, "F1 of looks", ("size", "texture", "color", "shape")),
        captions.attribute_f1(records, None, "F1 of motion", ("motion",)),
    ]


@drawn
def region(split: Split, num_items: int) -> Benchmark:
    """Benchmark description of one object marked by a mask, a box or a point."""
    load = draw("region", split, num_regions=1)
    return _described("world/region", "Region description", num_items, load, _look_figures)


@drawn
def caption(split: Split, num_items: int) -> Benchmark:
    """Benchmark captions of pictures."""
    return _described("world/caption", "Caption", num_items, draw("caption", split), _look_figures)


@drawn
def video_caption(split: Split, num_items: int) -> Benchmark:
    """Benchmark captions of clips."""
    load = draw("video_caption", split)
    return _described("world/video_caption", "Video caption", num_items, load, _motion_figures, moving=True)


@drawn
def grounded_caption(split: Split, num_items: int) -> Benchmark:
    """Benchmark grounded captions of pictures, with a mask for every phrase."""
    load = keep(draw("gcg", split))

    def score(sample: Sample, answers: Sequence[Answer]) -> Record:
        other = load(sample.meta["index"] + 1)
        target, others = sample.masks[:, 0], other.masks[:, 0]
        record = captions.grounded_record(
            answers[0], pairwise_iou(answers[0].masks[:, 0], target), pairwise_iou(others, target)
        )
        return record | {"text": answers[0].text}

    return Benchmark(
        name="world/grounded_caption", title="Grounded caption", ids=numbers(num_items), load=load, ask=ask_first,
        score=score, summarize=partial(captions.grounded_figures, precision_bar=Bar(0.60), iou_bar=Bar(0.65)),
        options=_LONG,
    )  # fmt: skip


# ---- clips


def _tracks(
    name: str,
    title: str,
    num_items: int,
    load: Callable[[int], Sample],
    summarize: Callable[[list[Record]], list[Figure]],
    frames: Callable[[NDArray[np.bool_]], list[int]],
) -> Benchmark:
    def score(sample: Sample, answers: Sequence[Answer]) -> Record:
        target = true_mask(sample)
        number = len(sample.meta["targets"][0])
        record = tracks.track_record(answers[0], target, scene_masks(sample), number, frames(target))
        asked = {"kind": sample.meta["kinds"][0], "needs_motion": sample.meta["needs_motion"][0]}
        return record | asked | {"said": answers[0].text}

    return Benchmark(
        name=name, title=title, ids=numbers(num_items), load=load, ask=ask_first, score=score, summarize=summarize,
        options=_CLIP_SHORT, batch_size=_CLIP_BATCH,
    )  # fmt: skip


@drawn
def video(split: Split, num_items: int) -> Benchmark:
    """Benchmark referring segmentation of one object or group in a clip, over all frames."""
    shares = {kind: share for kind, share in CLIP_KINDS.items() if kind != "absent"}
    load = partial(refer, "video_refseg", split, shares=shares)
    return _tracks("world/video", "Video", num_items, load, tracks.track_figures, lambda target: [])


def find_passer(split: Split, index: int) -> Sample:
    """Generate a clip and an expression for an object that another one fully occludes for some frames."""
    start = _PASSERS_FROM + index * _PASSERS_STEP
    for item in range(start, start + _PASSERS_STEP):
        scene, _ = draw_item("video_refseg", split.seed, split.name, item)
        if all(obj.motion.kind != PASSES for obj in scene.objects):
            continue  # before rendering, which takes much longer than generating the scene
        sample = tasks.video_refseg(split.seed, split.name, item, num_turns=6, empty_share=0.0)
        if [PASSES] in sample.meta["motions"]:
            return only_turn(sample, sample.meta["motions"].index([PASSES]))
    raise ValueError(
        f"seed {split.seed}, item {index}: none of {_PASSERS_STEP} clips fully occludes an object with an expression"
    )


def only_turn(sample: Sample, turn: int) -> Sample:
    """Return a sample with one of its turns and the entries of `meta` for that turn."""
    meta = {name: [value[turn]] if isinstance(value, list) else value for name, value in sample.meta.items()}
    return replace(sample, turns=(sample.turns[turn],), meta=meta)


@drawn
def occlusion(split: Split, num_items: int) -> Benchmark:
    """Benchmark segmentation of an object that passes behind another, on the frames after a full occlusion."""

    def summarize(records: list[Record]) -> list[Figure]:
        return [tracks.track_figure(records, "J&F after a full occlusion", Bar(0.45))]

    title = "Video, after a full occlusion"
    load = partial(find_passer, split)
    return _tracks("world/occlusion", title, num_items, load, summarize, tracks.frames_after_gap)
