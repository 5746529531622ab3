"""Test that long clips hold what they promise: exits that really leave, crossings, exact masks, stable rows."""

import inspect
from itertools import pairwise

import numpy as np
import pytest

from sa2va.world.scenes.long_clips import BEAT, FRAMES, MIN_BEATS, make_long_clip, name_objects
from sa2va.world.scenes.scene import COLORS, HELD_OUT_PAIRS, Scene

SIZE = 64  # px
T = MIN_BEATS * BEAT


def visible_pixels(scene: Scene, num_frames: int) -> np.ndarray:
    return np.array([masks.sum((1, 2)) for _, masks in scene.stream(SIZE, num_frames)]).T  # (N, T)


def paths(scene: Scene, num_frames: int) -> np.ndarray:
    times = np.linspace(0, 1, num_frames)
    return np.array([[(state.x, state.y) for state in map(item.state, times)] for item in scene.objects])  # (N, T, 2)


@pytest.mark.parametrize("index", range(4))
def test_objects_start_in_sight_leave_and_come_back(index):
    scene = make_long_clip(7, index)
    pixels = visible_pixels(scene, FRAMES)
    assert (pixels[:, 0] > 0).all()
    returns = 0
    for item, seen in zip(scene.objects, pixels, strict=True):
        states = [item.state(t / (FRAMES - 1)) for t in range(FRAMES)]
        outside = np.array([not state.visible for state in states])
        assert not seen[outside].any(), "an object outside the picture shows no pixel"
        reach = 1.15 * item.radius
        assert all(s.x < -reach or s.x > 1 + reach or s.y < -reach or s.y > 1 + reach
                   for s, out in zip(states, outside, strict=True) if out)  # fmt: skip
        spans = np.flatnonzero(np.diff(outside.astype(int)))  # where it goes and where it comes
        for gone, back in zip(spans[::2], spans[1::2], strict=False):
            assert back - gone >= BEAT
            returns += 1
    assert returns >= FRAMES // BEAT // 8


@pytest.mark.parametrize("index", range(4))
def test_two_objects_cross(index):
    scene = make_long_clip(7, index)
    places, radii = paths(scene, FRAMES), [item.radius for item in scene.objects]
    meetings = 0
    for one in range(len(places)):
        for other in range(one):
            apart = np.hypot(*(places[one] - places[other]).T)
            touching = apart < 0.5 * (radii[one] + radii[other])
            meetings += np.count_nonzero(np.diff(touching.astype(int)) == 1)
    assert meetings >= FRAMES // BEAT // 8


def test_seen_objects_move_no_faster_than_a_walk_across_the_picture():
    for index in range(4):
        scene = make_long_clip(1, index)
        places = paths(scene, FRAMES)
        for item, path in zip(scene.objects, places, strict=True):
            states = [item.state(t / (FRAMES - 1)).visible for t in range(FRAMES)]
            both = [first and second for first, second in pairwise(states)]
            assert np.hypot(*np.diff(path, axis=0)[both].T).max() < 2 * 1.5 / BEAT


def test_masks_are_exact_and_rows_keep_their_object():
    scene = make_long_clip(2, 0, T)
    plain = Scene(objects=scene.objects, background="plain", seed=scene.seed)
    background = next(Scene(objects=(), background="plain", seed=scene.seed).stream(SIZE))[0].astype(int)
    for t, (frame, masks) in enumerate(plain.stream(SIZE, T)):
        assert masks.sum(0).max() <= 1, "visible pixels belong to one object"
        inside = masks.any(0)
        assert (np.abs(frame - background).max(-1)[inside] > 0).mean() > 0.98
        alone = [Scene(objects=(item,), background="plain", seed=0) for item in scene.objects]
        if t % 50 == 0:
            for row, one in enumerate(alone):
                whole = list(one.stream(SIZE, T))[t][1][0]
                hiding = masks[row + 1 :].any(0)
                assert (masks[row] == (whole & ~hiding)).all()


def test_the_same_numbers_give_the_same_clip_and_others_another():
    first, again, other = (make_long_clip(3, index, T) for index in (5, 5, 6))
    assert first == again != other
    frames, masks = first.render(SIZE, T).frames, first.render(SIZE, T).masks
    for t, (frame, seen) in enumerate(again.stream(SIZE, T)):
        assert (frame == frames[t]).all() and (seen == masks[:, t]).all()


def test_each_expression_fits_one_object_and_no_pair_is_held_out():
    for index in range(20):
        scene = make_long_clip(0, index, T)
        assert len(set(name_objects(scene))) == len(scene.objects) >= 3
        assert not {item.pair for item in scene.objects} & HELD_OUT_PAIRS
        assert {item.color for item in scene.objects} <= set(COLORS)


def test_frames_come_one_by_one():
    stream = make_long_clip(0, 0).stream(SIZE, FRAMES)
    assert inspect.isgenerator(stream)
    frame, masks = next(stream)
    assert frame.shape == (SIZE, SIZE, 3) and masks.shape[1:] == (SIZE, SIZE)


@pytest.mark.parametrize("seed, index, frames", [(-1, 0, FRAMES), (0, -1, FRAMES), (0, 0, T - 1)])
def test_numbers_out_of_range_are_named(seed, index, frames):
    with pytest.raises(ValueError, match=f"{frames} frames; expected .* at least {T} frames"):
        make_long_clip(seed, index, frames)
