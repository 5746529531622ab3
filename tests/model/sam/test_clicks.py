"""Compare clicks and boxes with the library's video model, and check their coordinates in px."""

import numpy as np
import pytest
import torch
from support.stock_sam2 import SIDE, build_native, build_sam2, draw_clip, open_session
from torch import Tensor

from sa2va.model.sam.clicks import (
    FIRST_CORNER,
    NEGATIVE,
    POSITIVE,
    SECOND_CORNER,
    Clicks,
    decode_clicks,
    read_mask,
    refine_mask,
)
from sa2va.model.sam.sam2 import MaskOutput, Sam2
from sa2va.model.sam.tracker import SOFT, STOCK, Tracker

SIZE = (SIDE, SIDE)
CASES = [
    Clicks().at((20, 30), *SIZE),
    Clicks().at((20, 30), *SIZE).at((50, 9), *SIZE, inside=False),
    Clicks.around((8, 10, 40, 50), *SIZE),
]


@pytest.fixture(scope="module")
def sam2() -> Sam2:
    sam2 = build_sam2()
    with torch.no_grad():
        sam2.native.mask_decoder.output_hypernetworks_mlps[0].proj_out.weight *= 50  # a single mask that is stable
    return sam2


@torch.no_grad()
def native_clicks(sam2: Sam2, pixels: Tensor, clicks: Clicks) -> dict[int, tuple[Tensor, Tensor]]:
    """Decode clicks on frame 0 with the library and propagate."""
    session, native = open_session(pixels), build_native(sam2)
    places, labels = clicks.to_tensors(SIDE, *SIZE, pixels.device)
    inputs = {"point_coords": places[:, None], "point_labels": labels[:, None]}
    session.add_point_inputs(session.obj_id_to_idx(1), 0, inputs)
    session.obj_with_new_inputs = [1]
    found = {}
    for t in range(len(pixels)):
        out = native(session, frame_idx=t)
        found[t] = out.pred_masks[:, 0].clone(), out.object_score_logits[:, 0].clone()
    return found


@pytest.mark.parametrize("clicks", CASES, ids=["one click", "two clicks", "box"])
def test_clicks_equal_the_library(sam2: Sam2, clicks: Clicks) -> None:
    pixels = draw_clip(5)
    tracker, found = Tracker(sam2, STOCK, num_frames=5), {}
    with torch.no_grad():
        for t in range(5):
            features = sam2.encode_frames(pixels[t : t + 1])
            if t:
                found[t] = tracker.step(t, features)
            else:
                found[t] = decode_clicks(sam2, STOCK, clicks, SIZE, features)
                tracker.prompt(t, features, found[t])
    for t, (masks, presence) in native_clicks(sam2, pixels, clicks).items():
        assert torch.allclose(found[t].mask_logits, masks, atol=1e-3), t
        assert torch.allclose(found[t].presence_logits, presence, atol=1e-3), t


def test_a_model_tuned_on_three_masks_keeps_three(sam2: Sam2) -> None:
    features = sam2.encode_frames(draw_clip(1))
    with torch.no_grad():
        soft, stock = (decode_clicks(sam2, policy, CASES[2], SIZE, features) for policy in (SOFT, STOCK))
    assert soft.candidates.shape[1] == 3 and stock.candidates.shape[1] == 1


def test_a_previous_mask_is_refined(sam2: Sam2) -> None:
    features = sam2.encode_frames(draw_clip(1))
    with torch.no_grad():
        fresh = decode_clicks(sam2, SOFT, CASES[0], SIZE, features)
        previous = torch.full((1, SIDE // 4, SIDE // 4), -1024.0)
        refined = decode_clicks(sam2, SOFT, CASES[0], SIZE, features, previous=previous)
        cut = decode_clicks(sam2, SOFT, CASES[0], SIZE, features, previous=previous.clamp(min=-32))
    assert torch.equal(refined.candidates, cut.candidates)
    assert not torch.allclose(refined.candidates, fresh.candidates, atol=1e-3)


def test_places_are_scaled_to_the_input() -> None:
    clicks = Clicks().at((30, 10), 50, 100).at((100, 50), 50, 100, inside=False)
    places, labels = clicks.to_tensors(64, 50, 100, torch.device("cpu"))
    assert torch.allclose(places, torch.tensor([[[19.2, 12.8], [64.0, 64.0]]]))
    assert labels.tolist() == [[POSITIVE, NEGATIVE]]


def test_a_box_is_cut_off_at_the_border() -> None:
    box = Clicks.around((-5, 4, 30, 99), 20, 40)
    assert box == Clicks(((0.0, 4.0), (30.0, 20.0)), (FIRST_CORNER, SECOND_CORNER))


def test_a_scribble_becomes_a_few_clicks() -> None:
    line = np.stack([np.arange(100), np.arange(100)], axis=1)
    clicks = Clicks().at(line, 60, 60)  # half of it lies outside
    assert len(clicks.points) == 8 and clicks.points[0] == (0, 0) and clicks.points[-1] == (60, 60)


@pytest.mark.parametrize(
    ("point", "message"),
    [((1,), "expected"), ((1, 2, 3, 4), "expected"), ((99, 3), "outside"), ([], "expected"), (("a", "b"), "numbers")],
)
def test_bad_points_are_refused(point: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Clicks().at(point, 40, 40)


@pytest.mark.parametrize("size", [(64, 64), (30, 90)])
def test_who_points_at_an_object_says_that_it_is_there(sam2: Sam2, size: tuple[int, int]) -> None:
    features = sam2.encode_frames(draw_clip(1))
    clicks = Clicks().at((20, 20), *size)
    with torch.no_grad():
        asked, told = (decode_clicks(sam2, SOFT, clicks, size, features, present=flag) for flag in (False, True))
    assert told.presence_logits.sigmoid() > 0.999
    assert torch.equal(asked.candidates, told.candidates)


def paint(sam2: Sam2, *, left: bool) -> MaskOutput:
    """Build a mask of the left or right half."""
    logits = torch.full((1, 1, SIDE // 4, SIDE // 4), -9.0)
    logits[..., : SIDE // 8] = 9.0
    logits = logits if left else -logits
    return MaskOutput(logits, torch.ones(1, 1), torch.ones(1), torch.zeros(1, sam2.width))


WAYS = {
    "what is remembered heeds it": ([True], 0, False),
    "the mask alone does": ([False, True], 1, True),
    "only a new look does": ([False, False, True], 2, True),
    "nothing does": ([False, False, False], None, False),
}


@pytest.mark.parametrize(("heeds", "chosen", "forgets"), WAYS.values(), ids=WAYS)
def test_clicks_are_followed_until_they_are_heeded(
    sam2: Sam2, monkeypatch: pytest.MonkeyPatch, heeds: list[bool], chosen: int | None, forgets: bool
) -> None:
    """Click on the right half, for an object whose mask is the left half."""
    features, found = sam2.encode_frames(draw_clip(1)), paint(sam2, left=True)
    answers = [paint(sam2, left=not heeded) for heeded in heeds]
    asked: list[tuple[bool, bool]] = []

    def decode(embeds: Tensor, *args: object, previous: Tensor | None = None, **kwargs: object) -> MaskOutput:
        asked.append((torch.equal(embeds, features.embeds), previous is not None))
        return answers[len(asked) - 1]

    monkeypatch.setattr(sam2, "decode", decode)
    clicks = Clicks().at((SIDE - 8, 20), *SIZE)
    output, left_out = refine_mask(sam2, SOFT, clicks, SIZE, features, embeds=features.embeds, found=found)
    assert asked == [(True, True), (False, True), (False, False)][: len(heeds)]
    assert output is (found if chosen is None else answers[chosen]) and left_out is forgets


def test_a_click_beside_needs_a_mask_to_start_from(sam2: Sam2, monkeypatch: pytest.MonkeyPatch) -> None:
    features, found, asked = sam2.encode_frames(draw_clip(1)), paint(sam2, left=True), []
    monkeypatch.setattr(sam2, "decode", lambda *args, **kwargs: asked.append(kwargs["previous"]) or found)
    clicks = Clicks().at((8, 20), *SIZE, inside=False)
    output, left_out = refine_mask(sam2, SOFT, clicks, SIZE, features, embeds=features.embeds, found=found)
    assert len(asked) == 2 and all(previous is not None for previous in asked)
    assert output is found and not left_out


def test_masks_are_read_as_they_are() -> None:
    drawn = np.zeros((9, 7), bool)
    drawn[2:5, 3:] = True
    for given in (drawn, drawn.astype(np.uint8), drawn.astype(np.uint8) * 255):
        assert np.array_equal(read_mask(given, 9, 7).numpy(), drawn)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((9, 8), bool), r"expected bool or uint8 \(9, 7\)"),
        (np.full((9, 7), 0.9), "got float64"),
        (np.full((9, 7), np.nan), "got float64"),
        (np.ones((9, 7), np.int64), "got int64"),
        (np.zeros((9, 7), bool), "no pixel"),
        ("left", "got <U4"),
    ],
)
def test_bad_masks_are_one_line(mask: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_mask(mask, 9, 7)
    assert "\n" not in str(error.value)
