"""Define the long-clip benchmark: objects tracked through 500 frames from masks and from words, against short clips.

Flow: scenes/long_clips.py, frame by frame -> one session for both kinds of prompt -> TrackScore -> Record -> figures.
Source: J&F as in metrics/boundary.py, over all frames; identity switches as in metrics/identity.py.
Shapes: N objects, T frames, S side of the picture in px.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.evaluation.benchmark import Answers, Bar, Figure, LiveBenchmark, Record, measure, share_of
from sa2va.metrics.boundary import boundary_f, jaccard
from sa2va.metrics.identity import SwitchCounter
from sa2va.world.benchmarks.drawn import drawn
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


def follow_scene(
    predictor: Answers, scene: Scene, num_frames: int, rows: Sequence[int], names: Sequence[str]
) -> Record:
    """Track objects of a scene twice, prompted on the first frame by mask and by words; the tracks are independent.

    Args:
        predictor: model under test.
        scene: scene to render frame by frame.
        num_frames: T.
        rows: indices of the objects, all visible on the first frame.
        names: expressions of the first objects in `rows`; the others are only prompted by mask.

    Returns:
        Sums of a TrackScore, by kind of prompt and for the baseline of still masks.
    """
    chosen, named = list(rows), len(names)
    truth: deque[NDArray[np.bool_]] = deque()
    scores = {"mask": TrackScore(len(chosen)), "words": TrackScore(named), "still": TrackScore(len(chosen))}
    with predictor.track(_show(scene, num_frames, truth)) as session:
        for result in session:
            target = truth.popleft()[chosen]  # (N, S, S)
            if result.index == 0:
                first = target
                given = [[session.add(mask=mask)] for mask in target]
                asked = [_add_words(session, name) for name in names]
                result = session.current
            found = {one.id: one.mask for one in result.objects}
            scores["mask"].update(_lay(found, given, target), target)
            scores["words"].update(_lay(found, asked, target[:named]), target[:named])
            scores["still"].update(first, target)
    return {way: score.to_record() for way, score in scores.items()}


def _show(scene: Scene, num_frames: int, truth: deque[NDArray[np.bool_]]) -> Iterator[NDArray[np.uint8]]:
    """Yield rendered frames; append their ground-truth masks to `truth` for the scorer."""
    for frame, masks in scene.stream(SIDE, num_frames):
        truth.append(masks)
        yield frame


def _add_words(session: Any, expression: str) -> list[int]:
    """Prompt with an expression; return the ids of the objects that the model added."""
    before = set(session.ids)
    session.add(expression=expression)
    return [key for key in session.ids if key not in before]


def _lay(
    found: dict[int, NDArray[np.bool_]], groups: Iterable[Sequence[int | None]], like: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the union of the masks of each group of ids: (N, S, S), empty for an empty group."""
    unions = np.zeros_like(like)
    for row, keys in enumerate(groups):
        for key in keys:
            if key is not None:
                unions[row] |= found[key]
    return unions


def _add(records: Sequence[Record]) -> Record:
    """Add the sums of several scenes."""
    return {way: {name: sum(one[way][name] for one in records) for name in records[0][way]} for way in WAYS}


def play_short(predictor: Answers, split: Split, index: int) -> Record:
    """Track the objects of a short clip by mask, and those with a unique color-shape pair also by words."""
    scene, _ = draw_item("video_refseg", split.seed, split.name, index)
    first = next(scene.stream(SIDE, CLIP_FRAMES))[1]
    pairs = [item.pair for item in scene.objects]
    rows = sorted(np.flatnonzero(first.any((1, 2))).tolist(), key=lambda row: pairs.count(pairs[row]) > 1)
    names = [f"the {pairs[row][0]} {pairs[row][1]}" for row in rows if pairs.count(pairs[row]) == 1]
    return follow_scene(predictor, scene, CLIP_FRAMES, rows, names)


@drawn
def long_clips(split: Split, num_items: int, *, num_frames: int = FRAMES) -> LiveBenchmark:
    """Benchmark tracking of objects that leave, return and cross; one clip per ITEMS_A_CLIP items, at least one."""

    def play(predictor: Answers, index: int) -> Record:
        scene = make_long_clip(split.seed, index, num_frames)
        record = follow_scene(predictor, scene, num_frames, range(len(scene.objects)), name_objects(scene))
        shorts = [play_short(predictor, split, index * SHORT_CLIPS + number) for number in range(SHORT_CLIPS)]
        return {"long": record, "short": _add(shorts)}

    return LiveBenchmark(
        name="world/long", title=f"Long clips, {num_frames} frames with exits, returns and crossings",
        num_items=-(-num_items // ITEMS_A_CLIP), play=play, summarize=long_figures, on_request=True,
    )  # fmt: skip


def long_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute the same figures for both kinds of prompt; an item is a long clip with its short clips."""
    return [figure for way in ("mask", "words") for figure in _way_figures(records, way)]


def _way_figures(records: Sequence[Record], way: str) -> list[Figure]:
    def pair(length: str, part: str, whole: str, of: str = way) -> NDArray[np.float64]:
        return np.array([[r[length][of][part], r[length][of][whole]] for r in records], float).reshape(-1, 2)

    def share(name: str, length: str, part: str, whole: str, of_still: bool = False) -> Figure:
        rows = pair(length, part, whole)
        still = pair(length, part, whole, "still")
        chance = share_of(still) if of_still and still[:, 1].any() else None
        return measure(f"{WAYS[way]}: {name}", rows[rows[:, 1] > 0], share_of, chance=chance, baseline=STILL)

    both = np.concatenate([pair("long", "jf", "frames"), pair("short", "jf", "frames")], axis=1)  # (E, 4)
    return [
        share("J&F", "long", "jf", "frames", True),
        share(f"J&F of {CLIP_FRAMES} frames", "short", "jf", "frames", True),
        measure(f"{WAYS[way]}: J&F, long / short", both[both[:, 3] > 0], _ratio, bar=RATIO),
        share("J&F after coming back into sight", "long", "back_jf", "back_frames", True),
        share("frames with a mask while out of sight", "long", "away_masks", "away_frames"),
        share("identity switches per match", "long", "switches", "matches"),
    ]


def _ratio(rows: NDArray[np.float64]) -> float:
    """Return the ratio of two shares: (E, 4), part and whole of the long clips, then of the short ones."""
    short = share_of(rows[:, 2:])
    return share_of(rows[:, :2]) / short if short else 0.0
