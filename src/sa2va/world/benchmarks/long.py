"""Follow objects through drawn clips of 500 frames, from their true first masks and from words, beside short clips.

Flow: data/world/tour.py, frame by frame -> one session for both ways of asking -> TrackScore -> Record -> figures.
Source: J&F as in metrics/boundary.py, every frame counts; identity switches as in metrics/identity.py.
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

ITEMS_A_CLIP = 100  # a long clip takes about as long as so many items of other benchmarks
SHORT_CLIPS = 6  # beside each long one
RATIO = Bar(0.6)
WAYS = {"mask": "from the first masks", "words": "from words", "still": "masks that stay where they were"}
STILL = WAYS["still"]


class TrackScore:
    """How well N tracks fit N objects, added up frame by frame."""

    def __init__(self, number: int) -> None:
        self._seen, self._gone = np.zeros(number, bool), np.zeros(number, bool)
        self._switches = SwitchCounter()
        self._sums = dict.fromkeys(("jf", "frames", "back_jf", "back_frames", "away_masks", "away_frames"), 0.0)

    def update(self, pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> None:
        """Take in one frame: (N, S, S) each."""
        scores = (jaccard(pred, target) + boundary_f(pred, target)) / 2  # (N,)
        here = target.any((1, 2))
        self._gone |= self._seen & ~here
        self._seen |= here
        back, away = here & self._gone, self._seen & ~here
        drawn = pred.any((1, 2))
        for name, value in (
            ("jf", scores.sum()), ("frames", len(scores)), ("back_jf", scores[back].sum()), ("back_frames", back.sum()),
            ("away_masks", (drawn & away).sum()), ("away_frames", away.sum()),
        ):  # fmt: skip
            self._sums[name] += float(value)
        self._switches.update(pred, target)

    def to_record(self) -> Record:
        """Return the sums."""
        return self._sums | {"switches": self._switches.num_switches, "matches": self._switches.num_matches}


def follow_scene(
    predictor: Answers, scene: Scene, num_frames: int, rows: Sequence[int], names: Sequence[str]
) -> Record:
    """Track some objects of a scene, prompted on its first frame in two ways at once; they do not see each other.

    Args:
        predictor: who tracks.
        scene: what is drawn, frame by frame.
        num_frames: T.
        rows: the objects, all of them seen on the first frame.
        names: an expression for each of the first of them; those without one are not asked for in words.

    Returns:
        By way of asking, the sums of a TrackScore.
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
    """Draw frame by frame, and put the true masks of each where the scorer finds them."""
    for frame, masks in scene.stream(SIDE, num_frames):
        truth.append(masks)
        yield frame


def _add_words(session: Any, expression: str) -> list[int]:
    """Ask for an object; return the ids of all that the model found."""
    before = set(session.ids)
    session.add(expression=expression)
    return [key for key in session.ids if key not in before]


def _lay(
    found: dict[int, NDArray[np.bool_]], groups: Iterable[Sequence[int | None]], like: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Lay the masks of each group of ids together: (N, S, S), empty where there are none."""
    laid = np.zeros_like(like)
    for row, keys in enumerate(groups):
        for key in keys:
            if key is not None:
                laid[row] |= found[key]
    return laid


def _add(records: Sequence[Record]) -> Record:
    """Add up the sums of several scenes."""
    return {way: {name: sum(one[way][name] for one in records) for name in records[0][way]} for way in WAYS}


def play_short(predictor: Answers, split: Split, index: int) -> Record:
    """Track the objects of a short clip of the drawn world; those whose looks are their own also by words."""
    scene, _ = draw_item("video_refseg", split.seed, split.name, index)
    first = next(scene.stream(SIDE, CLIP_FRAMES))[1]
    pairs = [item.pair for item in scene.objects]
    rows = sorted(np.flatnonzero(first.any((1, 2))).tolist(), key=lambda row: pairs.count(pairs[row]) > 1)
    names = [f"the {pairs[row][0]} {pairs[row][1]}" for row in rows if pairs.count(pairs[row]) == 1]
    return follow_scene(predictor, scene, CLIP_FRAMES, rows, names)


@drawn
def long_clips(split: Split, num_items: int, *, num_frames: int = FRAMES) -> LiveBenchmark:
    """Follow objects that leave, return and cross; a clip for every ITEMS_A_CLIP items, at least one."""

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
    """Compute the same figures for both ways of asking; items are clips, each with its objects and its short clips."""
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
    """Divide two shares: (E, 4), parts and wholes of the long and of the short clips."""
    short = share_of(rows[:, 2:])
    return share_of(rows[:, :2]) / short if short else 0.0
