"""Check mode consistent against the session of Transformers, for the same mask prompts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.small_model import draw_sample
from support.stock_sam2 import Tracked, build_sam2, draw_clip, draw_masks, propagate
from torch import Tensor

from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options
from sa2va.inference.tracking.consistent import ConsistentMaskPrompting
from sa2va.inference.tracking.mask_prompting import GroundedAnswer
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import Sam2
from sa2va.model.sam.tracker import SOFT, STOCK, Tracker, TrackPolicy

NUM_FRAMES, KEYFRAMES, NUM_OBJECTS = 24, (0, 6, 11, 17, 23), 3


@torch.no_grad()
def track_given(
    sam2: Sam2, pixels: Tensor, masks: dict[int, Tensor], policy: TrackPolicy = STOCK, *, known: bool = True
) -> Tracked:
    """Prompt with masks (N, S, S) on some frames, and track all objects in one batch."""
    tracker, found = Tracker(sam2, policy, num_frames=len(pixels)), {}
    for frame, given in masks.items():
        features = sam2.encode_frames(pixels[frame : frame + 1])
        found[frame] = sam2.take_masks(features, given)
        tracker.prompt(frame, features, found[frame], given=given if known else None)
    for frame in range(len(pixels)):
        if frame not in masks:
            found[frame] = tracker.step(frame, sam2.encode_frames(pixels[frame : frame + 1]))
    return {frame: (found[frame].mask_logits, found[frame].presence_logits) for frame in sorted(found)}


def rows(masks: dict[int, Tensor], *objects: int) -> dict[int, dict[int, Tensor]]:
    """Regroup masks by frame to masks by object and frame."""
    return {n: {frame: mask[n] for frame, mask in masks.items()} for n in objects}


def difference(one: Tracked, other: Tracked) -> float:
    """Return the largest difference of any logit."""
    return max((a - b).abs().max().item() for f in one for a, b in zip(one[f], other[f], strict=True))


@pytest.fixture(scope="module", params=["2.0", "2.1"])
def case(request: pytest.FixtureRequest) -> tuple[Sam2, Tensor, dict[int, Tensor]]:
    """Make a model, a clip, and masks of three objects, one of them absent on one key frame."""
    masks = draw_masks(NUM_OBJECTS, *KEYFRAMES)
    masks[KEYFRAMES[2]][1] = False
    return build_sam2(request.param), draw_clip(NUM_FRAMES), masks


def test_several_objects_equal_the_library(case: tuple[Sam2, Tensor, dict[int, Tensor]]) -> None:
    sam2, pixels, masks = case
    stock = propagate(sam2, pixels, rows(masks, 0, 1, 2))
    present = torch.cat([presence > 0 for frame, (_, presence) in stock.items() if frame not in KEYFRAMES])
    assert 0.2 < present.float().mean() < 0.8  # so that both branches are compared
    assert difference(track_given(sam2, pixels, masks), stock) < 1e-3


def test_one_object_equals_the_library(case: tuple[Sam2, Tensor, dict[int, Tensor]]) -> None:
    sam2, pixels, masks = case
    alone = {frame: mask[1:2] for frame, mask in masks.items()}
    assert difference(track_given(sam2, pixels, alone), propagate(sam2, pixels, rows(masks, 1))) < 1e-4


# ---- through the predictor

Small = tuple[Sa2VA, Processor]


@pytest.fixture(scope="module")
def original() -> Sam2:
    return build_sam2()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.concatenate([draw_sample(seed).frames for seed in range(8)])


def answer(model: Sa2VA, number: int) -> GroundedAnswer:
    states = torch.randn(number, 1, model.mllm.width, generator=torch.Generator().manual_seed(0))
    return GroundedAnswer("It is.", states, [None] * number)


@pytest.fixture
def predictor(small: Small, original: Sam2, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """Make a predictor whose language model always finds two objects and whose masks are not gated by presence."""
    monkeypatch.setattr(small[0], "config", replace(small[0].config, gate_absent=False))
    predictor = Predictor(*small, original_sam2=original)
    monkeypatch.setattr(predictor.engine, "answer_about", lambda *asked: [answer(predictor.model, 2)])
    return predictor


def test_the_session_equals_the_library_from_the_same_key_masks(
    small: Small, original: Sam2, predictor: Predictor, frames: np.ndarray
) -> None:
    model, processor = small
    options = Options(mode="consistent", mask_threshold=0.02)  # where the small model's logits change sign
    results = list(predictor.track(frames, "Please segment both.", num_keyframes=3, options=options))
    pixels, keys = processor.sam_pixel_values(frames), [0, 3, 7]
    with torch.no_grad():
        features = original.encode_frames(pixels[keys])
        prompting = ConsistentMaskPrompting(model, original, options)
        _, masks = prompting.decode(
            answer(model, 2).seg_states, features, processor.sam_frames(frames[keys]), frames[keys]
        )
        assert masks is not None and masks.any() and not masks.all()
        given = {n: {key: masks[3 * n + k] for k, key in enumerate(keys)} for n in range(2)}
        for t, (logits, presence) in propagate(original, pixels, given).items():
            drawn = original.enlarge(logits, 64, 64) > 0.02
            for n, found in enumerate(results[t].objects):
                assert np.mean(found.mask != drawn[n].numpy()) < 1e-3, (t, n)
                assert found.presence == pytest.approx(presence[n].sigmoid().item(), abs=1e-3)


def test_auto_takes_the_original_where_it_is(predictor: Predictor, frames: np.ndarray) -> None:
    for mode, policy in [("auto", STOCK), ("consistent", STOCK), ("official", SOFT)]:
        session = predictor.track(frames, options=Options(mode=mode))
        assert replace(session._tracker.policy, max_conditioning=None) == policy
    alone = Predictor(predictor.model, predictor.processor)
    assert alone.track(frames)._tracker.policy.overwrite_absent is False


def test_without_the_original_it_says_so_and_goes_on(small: Small, frames: np.ndarray, predictor: Predictor) -> None:
    alone = Predictor(*small)
    with pytest.warns(UserWarning, match="needs the original SAM 2.*falling back to mode official") as warned:
        alone.track(frames, options=Options(mode="consistent"))
    assert len(warned) == 1 and "\n" not in str(warned[0].message)
    with pytest.warns(UserWarning, match="mode consistent is for clips"):
        picture = predictor.predict(frames[0], "Please segment it.", options=Options(mode="consistent"))
    assert picture.text == alone.predict(frames[0], "Please segment it.").text


def test_an_original_of_another_size_is_refused(predictor: Predictor, frames: np.ndarray) -> None:
    model = predictor.model
    other = Sam2(model.config.sam2)
    other.native.config.image_size = 128
    with pytest.raises(ValueError, match="reads 128 px and the model's 64 px"):
        ConsistentMaskPrompting(model, other, Options())
