"""Test that each motion is what its name says, in the pictures and not only in the plan."""

from collections import Counter

import numpy as np
import pytest

from sa2va.world.scenes.choreography import tells_apart
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import Scene, WorldObject

_TIMES = np.linspace(0, 1, 16)


@pytest.fixture(scope="module")
def clips() -> list[Scene]:
    return [make_scene(6, "train", index, moving=True) for index in range(250)]


@pytest.fixture(scope="module")
def movers(clips) -> dict[str, list[tuple[Scene, int]]]:
    found: dict[str, list[tuple[Scene, int]]] = {kind: [] for kind in MOTIONS}
    for clip in clips:
        for index, item in enumerate(clip.objects):
            found[item.motion.kind].append((clip, index))
    return found


def _areas(scene: Scene, index: int) -> np.ndarray:
    """Return the visible share of the picture in each of 16 frames."""
    return scene.render(128, 16).masks[index].mean((1, 2))


def _center(mask: np.ndarray) -> np.ndarray:
    return (np.argwhere(mask).mean(0)[::-1] + 0.5) / mask.shape[0]


def _stays_inside(item: WorldObject, times: np.ndarray) -> bool:
    states = [item.state(float(u)) for u in times]
    return all(s.radius <= s.x <= 1 - s.radius and s.radius <= s.y <= 1 - s.radius for s in states)


def test_every_motion_occurs_and_one_to_three_objects_move(clips, movers):
    assert all(len(movers[kind]) >= 8 for kind in MOTIONS)
    assert {len(clip.objects) for clip in clips} == {2, 3, 4, 5}
    assert {sum(o.motion.kind != "stays still" for o in clip.objects) for clip in clips} == {1, 2, 3}


def test_half_of_the_clips_have_twins_that_differ_in_motion_alone(clips):
    with_twins = 0
    for clip in clips:
        appearances = Counter((o.pair, o.size, o.texture, o.radius, o.angle) for o in clip.objects)
        twins = [appearance for appearance, times in appearances.items() if times == 2]
        with_twins += bool(twins)
        for appearance in twins:
            first, second = (o for o in clip.objects if (o.pair, o.size, o.texture, o.radius, o.angle) == appearance)
            assert tells_apart(first.motion.kind, second.motion.kind)
    assert with_twins >= 0.5 * len(clips)


@pytest.mark.parametrize(
    "first, second, clear",
    [
        ("moves left", "moves right", True),
        ("moves left", "moves left", False),
        ("moves left", "stops", False),
        ("enters", "stops", False),
        ("enters", "leaves", True),
        ("grows", "stays still", True),
    ],
)
def test_tells_apart(first, second, clear):
    assert tells_apart(first, second) is clear
    assert tells_apart(second, first) is clear


@pytest.mark.parametrize(
    "kind, way", [("moves left", (-1, 0)), ("moves right", (1, 0)), ("moves up", (0, -1)), ("moves down", (0, 1))]
)
def test_moves_go_a_quarter_of_the_side_their_way(movers, kind, way):
    for scene, index in movers[kind][:12]:
        masks = scene.render(128, 2).masks[index]
        step = _center(masks[1]) - _center(masks[0])
        assert step @ way >= 0.25
        assert abs(step @ (way[1], way[0])) <= 0.08
        assert _stays_inside(scene.objects[index], _TIMES)


@pytest.mark.parametrize("kind, sign", [("grows", 1), ("shrinks", -1)])
def test_growing_and_shrinking(movers, kind, sign):
    for scene, index in movers[kind]:
        item = scene.objects[index]
        first, last = item.state(0.0), item.state(1.0)
        assert (last.radius / first.radius) ** sign >= 1.6
        assert (last.x, last.y) == (first.x, first.y)
        assert _stays_inside(item, _TIMES)


@pytest.mark.parametrize("num_frames", [4, 5, 16])
def test_blinking_shows_in_few_frames(movers, num_frames):
    for scene, index in movers["blinks"]:
        shown = [scene.objects[index].state(u).visible for u in np.linspace(0, 1, num_frames)]
        assert shown[0] and shown[-1]
        assert not all(shown)
        if num_frames == 16:
            assert sum(first and not second for first, second in zip(shown, shown[1:], strict=False)) == 2


def test_blinking_empties_the_mask(movers):
    scene, index = movers["blinks"][0]
    areas = _areas(scene, index)
    shown = [scene.objects[index].state(float(u)).visible for u in _TIMES]
    assert np.array_equal(areas > 0, shown)


def test_entering_and_leaving(movers):
    for kind, order in (("enters", 1), ("leaves", -1)):
        for scene, index in movers[kind][:10]:
            areas = _areas(scene, index)[::order]
            assert areas[0] == 0 and areas[-1] > 0.003
            item, times = scene.objects[index], np.linspace(0.3, 1, 8)
            assert _stays_inside(item, times if order > 0 else 1 - times)


def test_stopping_stands_still_in_the_second_half(movers):
    for scene, index in movers["stops"]:
        item = scene.objects[index]
        first, middle, last = (item.state(u) for u in (0.0, 0.5, 1.0))
        assert abs(middle.x - first.x) + abs(middle.y - first.y) >= 0.25
        assert (middle.x, middle.y) == (last.x, last.y)
        assert _stays_inside(item, _TIMES)


def test_passing_behind_hides_wholly_for_two_to_five_frames(movers):
    for scene, index in movers["passes behind"]:
        areas = _areas(scene, index)
        hidden = np.flatnonzero(areas == 0)
        assert 2 <= len(hidden) <= 5
        assert np.ptp(hidden) == len(hidden) - 1  # one stretch
        assert areas[0] > 0.004 and areas[-1] > 0.004
        assert _stays_inside(scene.objects[index], _TIMES)


def test_other_movers_are_never_covered_for_long(clips):
    for clip in clips[:40]:
        masks = clip.render(96, 16).masks.sum((2, 3))
        for index, item in enumerate(clip.objects):
            if item.motion.kind in ("enters", "leaves", "blinks", "passes behind"):
                continue
            alone = Scene(objects=(item,), background="plain", seed=0).render(96, 16).masks.sum((2, 3))[0]
            assert (masks[index] > 0).all()
            assert (masks[index] < 0.6 * alone).sum() <= 3
