"""Check that torch.compile takes the tracking step whole, and that it computes what eager code does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.stock_sam2 import build_sam2, draw_clip, draw_masks
from torch import Tensor

from sa2va.inference.compiling import compile_function
from sa2va.model.sam.memory_bank import Recalled
from sa2va.model.sam.sam2 import FrameFeatures, Memory, Sam2
from sa2va.model.sam.tracker import STOCK, MaskOutput, Tracker, TrackPolicy, track_frame

NUM_FRAMES = 17  # the frame on which the memory is full first
Step = Callable[..., tuple[MaskOutput, Memory]]


@pytest.fixture(scope="module", params=["2.0", "2.1"])
def sam2(request: pytest.FixtureRequest) -> Sam2:
    return build_sam2(request.param)


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch.compiler.reset()


def follow(sam2: Sam2, number: int, step: Step, num_frames: int = NUM_FRAMES) -> Tensor:
    """Track boxes through a clip with a step for frames with a full memory; return the logits of the last frame."""
    clip, (masks,) = draw_clip(num_frames), draw_masks(number, 0).values()

    def choose(sam2: Sam2, policy: TrackPolicy, features: FrameFeatures, recalled: Recalled, merged: Any) -> Any:
        assert recalled.mask is None and recalled.maps.shape[0] == number
        is_full = recalled.maps.shape[1] == 7 and recalled.ages.shape[1] == 16
        return (step if is_full else track_frame)(sam2, policy, features, recalled, merged)

    with torch.no_grad():
        tracker = Tracker(sam2, STOCK, follow=choose)
        features = sam2.encode_frames(clip[:1])
        tracker.prompt(0, features, sam2.take_masks(features, masks), given=masks)
        for index, pixels in enumerate(clip[1:], 1):
            output = tracker.step(index, sam2.encode_frames(pixels[None]))
    return output.mask_logits


@pytest.mark.parametrize("number", [1, 8])
def test_the_step_has_no_graph_break(sam2: Sam2, number: int) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    step = torch.compile(track_frame, backend=count, fullgraph=True, dynamic=False)
    expected = follow(sam2, number, track_frame, NUM_FRAMES + 2)
    found = follow(sam2, number, step, NUM_FRAMES + 2)
    assert len(graphs) == 1  # the same graph for every frame
    assert (found - expected).abs().max() < 1e-4


def test_the_image_encoder_has_no_graph_break(sam2: Sam2) -> None:
    pixels = draw_clip(1)
    encode = torch.compile(sam2.encode_frames, backend="eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        found, expected = encode(pixels), sam2.encode_frames(pixels)
    torch.testing.assert_close(found.embeds, expected.embeds)
    torch.testing.assert_close(found.high_res, expected.high_res)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 8])
def test_compiled_equals_eager(number: int) -> None:
    sam2 = build_sam2("2.1")
    step = compile_function(track_frame)
    expected = follow(sam2, number, track_frame)
    assert (follow(sam2, number, step) - expected).abs().max() < 1e-4
