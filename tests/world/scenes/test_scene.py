"""Test that a drawn scene shows what it says, with exact visible masks, at any resolution."""

from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.world.scenes.motion import Motion
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT_PAIRS,
    RADII,
    SHAPES,
    SIZES,
    TEXTURES,
    TONES,
    Scene,
    WorldObject,
)
from sa2va.world.scenes.shapes import outline, outline_area


def _item(**changes) -> WorldObject:
    base = WorldObject(shape="square", color="red", size="medium", texture="plain", x=0.5, y=0.5, radius=0.11)
    return replace(base, **changes)


def _scene(*objects: WorldObject, background: str = "plain") -> Scene:
    return Scene(objects=objects, background=background, seed=4)


def test_the_world_is_as_large_as_promised():
    assert (len(COLORS), len(SHAPES), len(SIZES), len(TEXTURES), len(BACKGROUNDS)) == (10, 12, 3, 4, 6)
    assert TONES.keys() == COLORS.keys() and set(RADII) == set(SIZES)
    assert len(HELD_OUT_PAIRS) == 12
    for word in (*COLORS, *SHAPES):
        assert sum(word in pair for pair in HELD_OUT_PAIRS) <= 2


def test_sizes_are_apart():
    for smaller, larger in (("small", "medium"), ("medium", "large")):
        assert RADII[larger][0] > 1.3 * RADII[smaller][1]


@pytest.mark.parametrize("first, second", list(combinations(COLORS, 2)))
def test_colors_and_their_tones_stay_clear_of_each_other(first, second):
    assert np.linalg.norm(np.subtract(COLORS[first], COLORS[second])) > 70
    to_own, to_other = (np.linalg.norm(np.subtract(TONES[first], COLORS[name])) for name in (first, second))
    assert to_own < 1.25 * to_other, "the tone would be taken for the other color"


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_backgrounds_are_muted_and_apart_from_every_color(background):
    for seed in range(12):
        frame = Scene(objects=(), background=background, seed=seed).render(64).frames[0].astype(int)
        assert np.ptp(frame, axis=-1).max() < 50  # greyish
        for color in COLORS.values():
            assert np.linalg.norm(frame - color, axis=-1).min() > 45


def test_kinds_of_background_differ():
    frames = [Scene(objects=(), background=kind, seed=3).render(64).frames[0].astype(float) for kind in BACKGROUNDS]
    for first, second in combinations(frames, 2):
        assert np.abs(first - second).max() > 8


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_fill_their_radius(shape):
    assert max(np.abs(points).max() for points in outline(shape)) <= 1.08
    assert 1.4 <= outline_area(shape) <= 2.6
    mask = _scene(_item(shape=shape, radius=0.3)).render(200).masks[0, 0]
    assert mask.mean() == pytest.approx(outline_area(shape) * 0.3**2, rel=0.03)


@pytest.mark.parametrize("first, second", list(combinations(SHAPES, 2)))
def test_shapes_differ_at_14_px(first, second):
    masks = [_scene(_item(shape=shape, radius=7 / 64)).render(64).masks[0, 0] for shape in (first, second)]
    assert (masks[0] & masks[1]).sum() < 0.9 * (masks[0] | masks[1]).sum()


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("color", COLORS)
def test_an_object_shows_its_color(color, texture):
    rendering = _scene(_item(color=color, texture=texture, radius=0.17)).render(128)
    mask = cv2.erode(rendering.masks[0, 0].astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    pixels = rendering.frames[0][mask].astype(float)
    names = list(COLORS)
    nearest = np.linalg.norm(pixels[:, None] - np.array(list(COLORS.values())), axis=-1).argmin(1)
    assert np.bincount(nearest, minlength=10).argmax() == names.index(color)
    assert (pixels.std(0).max() > 10) == (texture != "plain")


def test_visible_pixels_are_those_that_the_object_changes():
    below = _item(color="blue", x=0.4, y=0.45, texture="striped", radius=0.17)
    above = _item(color="yellow", shape="star", x=0.55)
    both, without = _scene(below, above).render(200), _scene(below).render(200)
    changed = (both.frames[0] != without.frames[0]).any(-1)
    mask = both.masks[1, 0]
    assert changed[mask].all()
    assert not (changed & ~cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)).any()
    assert np.array_equal(both.masks[0], without.masks[0] & ~both.masks[1])  # hidden parts are taken away
    assert both.masks[0].sum() < without.masks[0].sum()


def test_the_ring_shows_what_lies_in_its_hole():
    rendering = _scene(_item(radius=0.06), _item(shape="ring", color="blue", radius=0.18)).render(128)
    assert rendering.masks[0, 0, 64, 64]
    assert rendering.masks[1].any()


def test_parts_outside_the_picture_are_cut_off():
    whole = _scene(_item()).render(100).masks.sum()
    half = _scene(_item(x=0.0)).render(100).masks.sum()
    assert half == pytest.approx(whole / 2, rel=0.06)
    assert not _scene(_item(x=-0.2)).render(100).masks.any()


@pytest.mark.parametrize("moving", [False, True])
def test_a_scene_looks_the_same_at_every_resolution(moving):
    for index in range(6):
        scene = make_scene(2, "val", index, moving=moving)
        small, large = scene.render(128, 3), scene.render(384, 3)
        for t in range(3):
            shrunk = cv2.resize(large.frames[t], (128, 128), interpolation=cv2.INTER_AREA).astype(float)
            assert np.abs(shrunk - small.frames[t]).mean() < 5
        assert np.allclose(small.masks.mean((2, 3)), large.masks.mean((2, 3)), rtol=0.08, atol=2e-4)


def test_clips_of_any_length_agree_where_their_times_do():
    scene = make_scene(2, "val", 3, moving=True)
    long, short = scene.render(64, 9), scene.render(64, 3)
    assert np.array_equal(long.frames[[0, 4, 8]], short.frames)
    assert np.array_equal(long.masks[:, [0, 4, 8]], short.masks)
    assert np.array_equal(scene.render(64).frames, short.frames[:1])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**40), index=st.integers(0, 2**40), moving=st.booleans(), size=st.integers(16, 150),
    num_frames=st.integers(1, 5),
)  # fmt: skip
def test_masks_never_overlap_and_follow_the_states(seed, index, moving, size, num_frames):
    scene = make_scene(seed, "val", index, moving=moving)
    rendering = scene.render(size, num_frames)
    assert rendering.frames.shape == (num_frames, size, size, 3) and rendering.frames.dtype == np.uint8
    assert rendering.masks.shape == (len(scene.objects), num_frames, size, size) and rendering.masks.dtype == bool
    assert rendering.masks.sum(0).max() <= 1
    for item, mask in zip(scene.objects, rendering.masks, strict=True):
        for t in range(num_frames):
            state = item.state(t / (num_frames - 1) if num_frames > 1 else 0.0)
            ys, xs = np.nonzero(mask[t])
            if not state.visible:
                assert not len(ys)
            elif len(ys):
                reach = 1.15 * state.radius * size + 1
                assert np.abs(xs + 0.5 - state.x * size).max() <= reach
                assert np.abs(ys + 0.5 - state.y * size).max() <= reach


@pytest.mark.parametrize("arguments, message", [((8, 1), "size=8"), ((64, 0), "num_frames=0")])
def test_impossible_renderings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        _scene(_item()).render(*arguments)


def test_an_unknown_motion_is_refused():
    with pytest.raises(ValueError, match="'flies' is unknown"):
        Motion(kind="flies")
