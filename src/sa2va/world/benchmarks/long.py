"""Define the long-clip benchmark: objects tracked through 500 frames from masks and from words, against short clips.

Flow: scenes/long_clips.py, frame by frame -> one session for both kinds of prompt -> Answer; the scene again and the
    answer, frame by frame -> TrackScore -> Record -> figures.
Source: J&F as in metrics/boundary.py, over all frames; identity switches as in metrics/identity.py.
Shapes: N objects, T frames, S side of the picture in px.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Answers, Bar, Benchmark, Figure, Record, measure
from sa2va.inference.results import ObjectMasks
from sa2va.masks import RLE
from sa2va.metrics.boundary import boundary_f, jaccard
from sa2va.metrics.identity import SwitchCounter
from sa2va.metrics.interval import share
from sa2va.world.benchmarks.drawn import drawn, numbers
from sa2va.world.scenes.long_clips import FRAMES, make_long_clip, name_objects
from sa2va.world.scenes.scene import Scene
from sa2va.world.scenes.splits import Split
from sa2va.world.tasks.items import CLIP_FRAMES, SIDE, draw_item

ITEMS_A_CLIP = 100  # items of other benchmarks that take about as long as one long clip
SHORT_CLIPS = 6  # number of short clips per long clip
RATIO = Bar(0.6)
WAYS = {"mask": "from the first masks", "words": "from words", "still": "masks that stay where they were"}
STILL = WAYS["still"]


class TrackScore:
    """Running sums of tracking quality: J&F and identity switches of N tracks against N objects."""

    def __init__(self, number: int) -> None:
        self._seen, self._gone = np.zeros(number, bool), np.zeros(number, bool)
        self._switches = SwitchCounter()
        self._sums = dict.fromkeys(("jf", "frames", "back_jf", "back_frames", "away_masks", "away_frames"), 0.0)

    def update(self, pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> None:
        """Add one frame: (N, S, S) each."""
        scores = (jaccard(pred, target) + boundary_f(pred, target)) / 2  # (N,)
        here = target.any((1, 2))
        self._gone |= self._seen & ~here
        self._seen |= here
        back, away = here & self._gone, self._seen & ~here
        has_mask = pred.any((1, 2))
        for name, value in (
            ("jf", scores.sum()), ("frames", len(scores)), ("back_jf", scores[back].sum()), ("back_frames", back.sum()),
            ("away_masks", (has_mask & away).sum()), ("away_frames", away.sum()),
        ):  # fmt: skip
            self._sums[name] += float(value)
        self._switches.update(pred, target)

    def to_record(self) -> Record:
        """Return the sums."""
        return self._sums | {"switches": self._switches.num_switches, "matches": self._switches.num_matches}


@dataclass(frozen=True)
class Followed:
    """A scene whose objects are tracked twice from the first frame: prompted by mask and by words.

    Attributes:
        scene: rendered frame by frame.
        num_frames: T.
        rows: indices of the objects, all visible on the first frame.
        names: expressions of the first objects in `rows`; the others are only prompted by mask.
    """

    scene: Scene
    num_frames: int
    rows: tuple[int, ...]
    names: tuple[str, ...]


def follow_scene(predictor: Answers, followed: Followed) -> Answer:
    """Track the objects of a scene; the tracks are independent.

    Returns:
        An answer whose objects have the phrases "mask ROW" and "words ROW": how they were prompted, and for which row.
    """
    begin, first = time.perf_counter(), next(followed.scene.stream(SIDE, 1))[1]
    phrases: dict[int, str] = {}
    tracks: dict[int, list[tuple[float, RLE]]] = {}
    frames = (frame for frame, _ in followed.scene.stream(SIDE, followed.num_frames))
    with predictor.track(frames) as session:
        for result in session:
            if result.index == 0:
                for row, index in enumerate(followed.rows):
                    key = session.add(mask=first[index])
                    assert key is not None  # a mask always makes an object
                    phrases[key] = f"mask {row}"
                for row, name in enumerate(followed.names):
                    phrases |= dict.fromkeys(_add_words(session, name), f"words {row}")
                result = session.current
            for one in result.objects:
                tracks.setdefault(one.id, []).append((one.score, one.rle))
    objects = tuple(
        ObjectMasks(
            id=key,
            phrase=phrases[key],
            presence=1.0,
            scores=np.array([score for score, _ in track], np.float32),
            rles=tuple(rle for _, rle in track),
        )
        for key, track in tracks.items()
    )
    seconds = time.perf_counter() - begin
    return Answer(text="", size=(SIDE, SIDE), num_frames=followed.num_frames, objects=objects, seconds=seconds)


def _add_words(session: Any, expression: str) -> list[int]:
    """Prompt with an expression; return the ids of the objects that the model added."""
    before = set(session.ids)
    session.add(expression=expression)
    return [key for key in session.ids if key not in before]


def score_scene(followed: Followed, answer: Answer) -> Record:
    """Score the tracks of a scene frame by frame: sums of a TrackScore by prompt, and for masks that stay still."""
    chosen, named = list(followed.rows), len(followed.names)
    scores = {"mask": TrackScore(len(chosen)), "words": TrackScore(named), "still": TrackScore(len(chosen))}
    first = None
    for frame, (_, truth) in enumerate(followed.scene.stream(SIDE, followed.num_frames)):
        target = truth[chosen]  # (N, S, S)
        first = target if first is None else first
        found = answer.masks_at(frame)
        for way, count in (("mask", len(chosen)), ("words", named)):
            unions = np.zeros_like(target[:count])
            for one, mask in zip(answer.objects, found, strict=True):
                prompt, _, row = (one.phrase or "").partition(" ")
                if prompt == way:
                    unions[int(row)] |= mask
            scores[way].update(unions, target[:count])
        scores["still"].update(first, target)
    return {way: score.to_record() for way, score in scores.items()}


def _add(records: Sequence[Record]) -> Record:
    """Add the sums of several scenes."""
    return {way: {name: sum(one[way][name] for one in records) for name in records[0][way]} for way in WAYS}


def short_clip(split: Split, index: int) -> Followed:
    """Return a short clip; its objects with a unique color-shape pair are also prompted by words."""
    scene, _ = draw_item("video_refseg", split.seed, split.name, index)
    first = next(scene.stream(SIDE, CLIP_FRAMES))[1]
    pairs = [item.pair for item in scene.objects]
    rows = sorted(np.flatnonzero(first.any((1, 2))).tolist(), key=lambda row: pairs.count(pairs[row]) > 1)
    names = [f"the {pairs[row][0]} {pairs[row][1]}" for row in rows if pairs.count(pairs[row]) == 1]
    return Followed(scene, CLIP_FRAMES, tuple(rows), tuple(names))


@drawn
def long_clips(split: Split, num_items: int, *, num_frames: int = FRAMES) -> Benchmark[list[Followed]]:
    """Benchmark tracking of objects that leave, return and cross; one clip per ITEMS_A_CLIP items, at least one."""

    def load(index: int) -> list[Followed]:
        scene = make_long_clip(split.seed, index, num_frames)
        long = Followed(scene, num_frames, tuple(range(len(scene.objects))), tuple(name_objects(scene)))
        return [long, *(short_clip(split, index * SHORT_CLIPS + number) for number in range(SHORT_CLIPS))]

    def score(item: list[Followed], answers: Sequence[Answer]) -> Record:
        long, *shorts = [score_scene(followed, answer) for followed, answer in zip(item, answers, strict=True)]
        return {"long": long, "short": _add(shorts)}

    return Benchmark(
        name="world/long", title=f"Long clips, {num_frames} frames with exits, returns and crossings",
        ids=numbers(-(-num_items // ITEMS_A_CLIP)), load=load,
        play=lambda predictor, item: [follow_scene(predictor, one) for one in item],
        score=score, summarize=long_figures, batch_size=1, on_request=True,
    )  # fmt: skip


def long_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute the same figures for both kinds of prompt; an item is a long clip with its short clips."""
    return [figure for way in ("mask", "words") for figure in _way_figures(records, way)]


def _way_figures(records: Sequence[Record], way: str) -> list[Figure]:
    def pair(length: str, part: str, whole: str, of: str = way) -> NDArray[np.float64]:
        return np.array([[r[length][of][part], r[length][of][whole]] for r in records], float).reshape(-1, 2)

    def ratio(name: str, length: str, part: str, whole: str, of_still: bool = False) -> Figure:
        rows = pair(length, part, whole)
        still = pair(length, part, whole, "still")
        chance = share(still) if of_still and still[:, 1].any() else None
        return measure(f"{WAYS[way]}: {name}", rows[rows[:, 1] > 0], share, chance=chance, baseline=STILL)

    both = np.concatenate([pair("long", "jf", "frames"), pair("short", "jf", "frames")], axis=1)  # (E, 4)
    return [
        ratio("J&F", "long", "jf", "frames", True),
        ratio(f"J&F of {CLIP_FRAMES} frames", "short", "jf", "frames", True),
        measure(f"{WAYS[way]}: J&F, long / short", both[both[:, 3] > 0], _ratio, bar=RATIO),
        ratio("J&F after coming back into sight", "long", "back_jf", "back_frames", True),
        ratio("frames with a mask while out of sight", "long", "away_masks", "away_frames"),
        ratio("identity switches per match", "long", "switches", "matches"),
    ]


def _ratio(rows: NDArray[np.float64]) -> float:
    """Return the ratio of two shares: (E, 4), part and whole of the long clips, then of the short ones."""
    short = share(rows[:, 2:])
    return share(rows[:, :2]) / short if short else 0.0
