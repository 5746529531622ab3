"""Check the recoloring of pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import COLORS
from sa2va.world.scenes.splits import UNSEEN_PAIRS
from sa2va.world.training import recoloring as colors
from sa2va.world.training.recoloring import recolor


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 10_000), seed=st.integers(0, 10_000))
def test_no_object_comes_to_look_like_a_pair_that_is_held_out(index: int, seed: int) -> None:
    scene = make_scene(5, "train", index)
    swatches = np.array([[COLORS[thing.color] for thing in scene.objects]], np.uint8)[None]  # (1, 1, N, 3)
    painted = recolor(swatches, scene, np.random.default_rng(seed))
    if painted is None:
        return
    assert painted.shape == swatches.shape
    assert painted.dtype == np.uint8
    looks = {(colors._nearest(color), thing.shape) for color, thing in zip(painted[0, 0], scene.objects, strict=True)}
    assert not looks & UNSEEN_PAIRS


def test_edges_stay_and_colors_change() -> None:
    scene = make_scene(5, "train", 3)
    frames = scene.render(num_frames=1).frames
    painted = recolor(frames, scene, np.random.default_rng(1))
    assert painted is not None

    def edges(pixels: np.ndarray) -> np.ndarray:
        gray = pixels[0].astype(float).max(-1) - pixels[0].astype(float).min(-1)
        return np.abs(np.diff(gray, axis=0))[:, :-1] + np.abs(np.diff(pixels[0].astype(float).sum(-1), axis=1))[:-1]

    strong = edges(frames) > 60
    assert edges(painted)[strong].mean() > 3 * edges(painted)[~strong].mean()
    assert np.abs(painted.astype(int) - frames).mean() > 20


def test_where_every_map_shows_a_pair_nothing_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene(5, "train", 3)
    shape = scene.objects[0].shape
    monkeypatch.setattr(colors, "UNSEEN_PAIRS", frozenset((color, shape) for color in COLORS))
    assert recolor(scene.render(num_frames=1).frames, scene, np.random.default_rng(0)) is None
