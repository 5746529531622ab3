"""Test what chance may and may not draw: crowds, occlusions, appearance-alikes, held-out pairs."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import BACKGROUNDS, COLORS, HELD_OUT_PAIRS, RADII, SHAPES, TEXTURES, Scene

_SIZE = 192


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(5, "val", index) for index in range(300)]


@pytest.fixture(scope="module")
def visible(scenes):
    """Per scene and object: visible share of the picture, visible share of the object."""
    shares = []
    for scene in scenes:
        masks = scene.render(_SIZE).masks[:, 0]
        own = [Scene(objects=(item,), background="plain", seed=0).render(_SIZE).masks.sum() for item in scene.objects]
        shares.append([(m.mean(), m.sum() / area) for m, area in zip(masks, own, strict=True)])
    return shares


def test_a_scene_is_a_function_of_its_arguments():
    base = make_scene(1, "val", 2)
    assert base == make_scene(1, "val", 2)
    assert np.array_equal(base.render(64).frames, make_scene(1, "val", 2).render(64).frames)
    others = [
        make_scene(2, "val", 2),
        make_scene(1, "test", 2),
        make_scene(1, "val", 3),
        make_scene(1, "val", 2, moving=True),
        make_scene(1, "val", 2, require_heldout=True),
    ]
    assert all(base != other for other in others)


def test_two_to_eight_objects_uniformly(scenes):
    counts = Counter(len(scene.objects) for scene in scenes)
    assert set(counts) == set(range(2, 9))
    assert min(counts.values()) > 300 / 7 / 2


def test_everything_occurs(scenes):
    items = [item for scene in scenes for item in scene.objects]
    for options, drawn in (
        (COLORS, Counter(item.color for item in items)),
        (SHAPES, Counter(item.shape for item in items)),
        (RADII, Counter(item.size for item in items)),
        (TEXTURES, Counter(item.texture for item in items)),
        (BACKGROUNDS, Counter(scene.background for scene in scenes)),
    ):
        assert set(drawn) == set(options)
        assert min(drawn.values()) > 0.4 * sum(drawn.values()) / len(options)
    assert all(RADII[item.size][0] <= item.radius <= RADII[item.size][1] for item in items)


def test_every_object_shows_enough_of_itself(visible):
    assert min(area for shares in visible for area, _ in shares) >= 0.005
    assert min(part for shares in visible for _, part in shares) >= 0.30


def test_a_quarter_of_the_scenes_has_an_occlusion(visible):
    covered = [any(0.30 <= part <= 0.90 for _, part in shares) for shares in visible]
    assert np.mean(covered) >= 0.30
    assert np.mean([part < 0.995 for shares in visible for _, part in shares]) < 0.35  # and otherwise little


def test_most_objects_have_a_look_alike(scenes):
    alike = [
        any(other is not item and (other.color == item.color or other.shape == item.shape) for other in scene.objects)
        for scene in scenes
        for item in scene.objects
    ]
    assert 0.75 <= np.mean(alike) <= 0.97


def test_doubles_are_common(scenes):
    doubled = [max(Counter((o.pair, o.size) for o in s.objects).values()) > 1 for s in scenes]
    assert 0.25 <= np.mean(doubled) <= 0.65


def test_held_out_scenes_are_a_quarter(scenes):
    held_out = [any(item.pair in HELD_OUT_PAIRS for item in scene.objects) for scene in scenes]
    assert 0.15 <= np.mean(held_out) <= 0.35


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**50), index=st.integers(0, 2**50), moving=st.booleans())
def test_training_never_shows_a_held_out_pair_and_tests_do_on_demand(seed, index, moving):
    train = make_scene(seed, "train", index, moving=moving)
    assert not any(item.pair in HELD_OUT_PAIRS for item in train.objects)
    asked = make_scene(seed, "test", index, moving=moving, require_heldout=True)
    assert any(item.pair in HELD_OUT_PAIRS for item in asked.objects)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((-1, "val", 0), {}, "seed -1"),
        ((0, "val", -3), {}, "index -3"),
        ((0, "train", 0), {"require_heldout": True}, "no held-out pairs"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        make_scene(*arguments, **options)
