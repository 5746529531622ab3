"""Check the figures of long clips with trackers that make known errors."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.runner import run
from sa2va.inference.results import FrameObject, FrameResult
from sa2va.world.benchmarks import long
from sa2va.world.benchmarks.long import Followed, TrackScore, follow_scene, long_clips, long_figures, score_scene
from sa2va.world.scenes.long_clips import make_long_clip, name_objects

T = 150
SIDE = 64  # px; small pictures are scored faster
SCENE = make_long_clip(11, 0, T)
NAMES = name_objects(SCENE)
TRUTH = list(SCENE.stream(SIDE, T))

Draw = Callable[[np.ndarray, int], np.ndarray]  # masks of one frame (N, S, S), frame -> output of the tracker


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long, "SIDE", SIDE)


class FakeSession:
    """Tracker that knows the ground truth and returns `draw` of it for each frame."""

    def __init__(self, source: Iterator[np.ndarray], draw: Draw, deaf: bool) -> None:
        self._truth = TRUTH
        self._names, self._source, self._draw, self._deaf = NAMES, source, draw, deaf
        self._rows: dict[int, int] = {}
        self._index = -1

    def __enter__(self) -> "FakeSession":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __iter__(self) -> Iterator[FrameResult]:
        for index, frame in enumerate(self._source):
            assert (frame == self._truth[index][0]).all()
            self._index = index
            yield self.current

    @property
    def ids(self) -> list[int]:
        return list(self._rows)

    def add(self, *, mask: np.ndarray | None = None, expression: str | None = None) -> int | None:
        assert self._index == 0
        if mask is None and self._deaf:
            return None
        rows = [r for r, one in enumerate(self._truth[0][1]) if mask is not None and (one == mask).all()]
        self._rows[len(self._rows) + 1] = rows[0] if rows else self._names.index(expression)
        return len(self._rows)

    @property
    def current(self) -> FrameResult:
        masks = self._draw(self._truth[self._index][1], self._index)
        objects = [
            FrameObject(id=key, phrase=None, presence=1.0, score=1.0, mask=masks[row])
            for key, row in self._rows.items()
        ]
        return FrameResult(index=self._index, time=0.0, objects=tuple(objects))


class FakeTracker:
    def __init__(self, draw: Draw, deaf: bool = False) -> None:
        self._draw, self._deaf = draw, deaf

    def track(self, source: Any) -> Any:
        return FakeSession(source, self._draw, self._deaf)


def play(draw: Draw, deaf: bool = False) -> dict[str, Any]:
    followed = Followed(SCENE, T, tuple(range(len(NAMES))), tuple(NAMES))
    return score_scene(followed, follow_scene(FakeTracker(draw, deaf), followed))


def test_perfect_tracks_are_perfect_both_ways():
    record = play(lambda masks, frame: masks)
    for way in ("mask", "words"):
        sums = record[way]
        assert sums["jf"] == pytest.approx(sums["frames"]) and sums["frames"] == T * len(SCENE.objects)
        assert sums["back_jf"] == pytest.approx(sums["back_frames"]) and sums["back_frames"] > 0
        assert sums["away_masks"] == sums["switches"] == 0
        assert sums["away_frames"] >= 25


def test_a_tracker_that_never_lets_go_is_caught_while_the_object_is_away():
    sums = play(lambda masks, frame: masks | (~masks.any((1, 2)))[:, None, None])["mask"]
    assert sums["away_masks"] == sums["away_frames"] > 0


def test_tracks_that_change_hands_are_counted_once():
    def swap(masks: np.ndarray, frame: int) -> np.ndarray:
        return masks[[1, 0, *range(2, len(masks))]] if frame >= T // 2 else masks

    sums = play(swap)["mask"]
    assert sums["switches"] == 2
    assert sums["jf"] < play(lambda masks, frame: masks)["mask"]["jf"]


def test_still_masks_are_the_baseline():
    first = next(SCENE.stream(SIDE, T))[1]
    record = play(lambda masks, frame: first)
    assert record["mask"] == record["still"]


def test_what_the_model_does_not_find_scores_only_where_nothing_is():
    record = play(lambda masks, frame: masks, deaf=True)
    sums = record["words"]
    assert sums["matches"] == 0
    assert sums["jf"] == sums["away_frames"]  # both masks are empty there
    assert record["mask"]["jf"] == pytest.approx(record["mask"]["frames"])


def test_there_is_a_clip_for_every_hundred_items() -> None:
    counts = [len(long_clips(Selection(split="dev", seed=0, limit=number))) for number in (1, 100, 101, 500)]
    assert counts == [1, 1, 2, 5]


def test_the_runner_plays_a_clip_and_scores_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = long_clips(Selection(split="dev", seed=11, limit=1), num_frames=T)
    item = [benchmark.load(0)[0]]
    one = replace(benchmark, load=lambda index: item, score=lambda item, answers: score_scene(item[0], answers[0]))
    (record,) = run(one, FakeTracker(lambda masks, frame: masks))
    assert record == play(lambda masks, frame: masks)


def sums_of(score: float, frames: int) -> dict[str, float]:
    return {"jf": score * frames, "frames": frames, "back_jf": score * 10, "back_frames": 10,
            "away_masks": 5, "away_frames": 20, "switches": 1, "matches": 50}  # fmt: skip


def test_figures_weigh_frames_and_compare_long_with_short():
    ways = ("mask", "words", "still")
    records = [
        {"long": dict.fromkeys(ways, sums_of(0.6, 100)), "short": dict.fromkeys(ways, sums_of(0.8, 16))},
        {"long": dict.fromkeys(ways, sums_of(0.3, 300)), "short": dict.fromkeys(ways, sums_of(0.8, 16))},
    ]
    found = {figure.name: figure for figure in long_figures(json.loads(json.dumps(records)))}
    assert len(found) == 12
    assert found["from the first masks: J&F"].value == pytest.approx((60 + 90) / 400)
    assert found["from words: J&F of 16 frames"].value == pytest.approx(0.8)
    ratio = found["from the first masks: J&F, long / short"]
    assert ratio.value == pytest.approx(0.375 / 0.8) and ratio.passed is False
    assert found["from words: frames with a mask while out of sight"].value == pytest.approx(0.25)
    assert found["from words: identity switches per match"].value == pytest.approx(0.02)
    for figure in found.values():
        assert figure.low <= figure.value <= figure.high


def test_no_object_out_of_sight_leaves_a_figure_without_value():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, :4], masks[1, 4:] = True, True
    score = TrackScore(2)
    score.update(masks, masks)
    record = {"long": dict.fromkeys(("mask", "words", "still"), score.to_record())}
    found = {figure.name: figure for figure in long_figures([record | {"short": record["long"]}])}
    assert found["from words: J&F"].value == 1.0
    assert found["from words: J&F after coming back into sight"].value is None
