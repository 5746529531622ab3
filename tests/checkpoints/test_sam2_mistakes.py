"""Make every known mistake in driving SAM 2 on purpose, and check that the parity check detects it."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from support.small_model import build_model, draw_sample
from support.stock_sam2 import WIDTH, Tracked, balance, build_sam2, draw_clip, draw_masks, follow_language, propagate
from torch import Tensor, nn

from sa2va.model.pixels import IMAGENET_MEAN, IMAGENET_STD, normalize
from sa2va.model.sam.sam2 import Memory, Sam2
from sa2va.model.sam.tracker import SOFT, STOCK, Tracker, TrackPolicy

NUM_FRAMES, NUM_PROMPTED = 12, 3
MATCH = 3e-4  # what is left where nothing is wrong: a last bit that flips a rounding of stored memory
Mistake = Callable[[Sam2, pytest.MonkeyPatch], None]


@torch.no_grad()
def follow(
    sam2: Sam2, pixels: Tensor, prompt: Tensor, policy: TrackPolicy = SOFT, conditioning: int = NUM_PROMPTED
) -> Tracked:
    """Track one object with our tracker, from the same embedding as the reference."""
    found, memory = {}, Tracker(sam2, policy, num_frames=len(pixels))
    for t in range(len(pixels)):
        features = sam2.encode_frames(pixels[t : t + 1])
        if t < NUM_PROMPTED:
            sparse = sam2.language_prompt(prompt[None], 1)
            output = sam2.decode(sam2.without_memory(features.embeds), features.high_res, sparse)
            output = output.without_absent() if policy.overwrite_absent else output
            if t < conditioning:
                memory.prompt(t, features, output)
        else:
            output = memory.step(t, features)
        found[t] = output.mask_logits, output.presence_logits
    return found


def difference(one: Tracked, other: Tracked, frames: range) -> float:
    return max((one[t][0] - other[t][0]).abs().max().item() for t in frames)


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return draw_clip(NUM_FRAMES)


@pytest.fixture(scope="module")
def prompt() -> Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def sam2(clip: Tensor, prompt: Tensor) -> Sam2:
    sam2 = build_sam2()
    with torch.no_grad():
        sam2.native.mask_decoder.output_hypernetworks_mlps[0].proj_out.weight *= 50  # a single mask that is stable
        sam2.native.object_pointer_proj.proj_out.weight *= 5  # so that pointers count beside so few memories
    return balance(sam2, follow_language(sam2, clip, prompt, NUM_PROMPTED))


@pytest.fixture(scope="module")
def reference(sam2: Sam2, clip: Tensor, prompt: Tensor) -> Tracked:
    return follow_language(sam2, clip, prompt, NUM_PROMPTED)


def sparse_tokens(sam2: Sam2, number: int) -> Callable[[Tensor | None, int], Tensor]:
    empty = sam2.native.prompt_encoder.not_a_point_embed.weight

    def build(prompt: Tensor | None, num_masks: int) -> Tensor:
        tokens = [] if prompt is None else [prompt[:, None]]
        return torch.cat([empty.expand(num_masks, number, -1), *tokens], dim=1)

    return build


def pad_once(sam2: Sam2, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sam2, "language_prompt", sparse_tokens(sam2, 1))


def pad_never(sam2: Sam2, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sam2, "language_prompt", sparse_tokens(sam2, 0))


def take_the_single_mask(sam2: Sam2, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sam2, "decode", partial(sam2.decode, num_candidates=1))


def encode_the_age_of_pointers(sam2: Sam2, patch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    layer = nn.Linear(sam2.width, sam2.native.mem_dim)
    patch.setitem(sam2.native._modules, "temporal_positional_encoding_projection_layer", layer)
    patch.setattr(sam2.native.config, "enable_temporal_pos_encoding_for_object_pointers", True)


def keep_memory_in_float32(sam2: Sam2, patch: pytest.MonkeyPatch) -> None:
    encode, exact = sam2.encode_memory, []
    sam2.native.memory_encoder.register_forward_hook(lambda module, args, out: exact.append(out[0]))

    def unrounded(*args: object, **kwargs: object) -> Memory:
        return encode(*args, **kwargs)._replace(features=exact.pop().flatten(2).permute(2, 0, 1))

    patch.setattr(sam2, "encode_memory", unrounded)


def round_the_pointers(sam2: Sam2, patch: pytest.MonkeyPatch) -> None:
    embed = sam2.embed_pointers
    patch.setattr(sam2, "embed_pointers", lambda *args: tuple(x.bfloat16().float() for x in embed(*args)))


def test_no_mistake_matches(sam2: Sam2, clip: Tensor, prompt: Tensor, reference: Tracked) -> None:
    present = torch.stack([presence > 0 for _, presence in reference.values()])
    assert present.any() and not present.all()  # both branches are compared
    assert difference(follow(sam2, clip, prompt), reference, range(NUM_FRAMES)) < MATCH


def mismatch(found: Tracked, reference: Tracked) -> tuple[float, float]:
    """Return the largest differences of prompted and of tracked frames."""
    prompted, tracked = range(NUM_PROMPTED), range(NUM_PROMPTED, NUM_FRAMES)
    return difference(found, reference, prompted), difference(found, reference, tracked)


@pytest.mark.parametrize(
    ("mistake", "prompted", "tracked"),  # by how much the logits of prompted and of tracked frames are off at least
    [
        (pad_once, 0.05, 0.5),
        (pad_never, 0.05, 0.5),
        (take_the_single_mask, 10, 10),
        (encode_the_age_of_pointers, 0, 0.1),
        (keep_memory_in_float32, 0, 3e-4),
        (round_the_pointers, 0, 1e-3),
    ],
)
def test_a_mistake_shows(
    mistake: Mistake,
    prompted: float,
    tracked: float,
    sam2: Sam2,
    clip: Tensor,
    prompt: Tensor,
    reference: Tracked,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = copy.deepcopy(sam2)
    mistake(broken, monkeypatch)
    at_prompts, later = mismatch(follow(broken, clip, prompt), reference)
    assert at_prompts >= prompted and later > tracked


@pytest.mark.parametrize(
    ("policy", "prompted", "tracked"),
    [
        (TrackPolicy(overwrite_absent=True, binarize_prompted=False, single_mask=False), 1000, 1000),
        (TrackPolicy(overwrite_absent=False, binarize_prompted=True, single_mask=False), 0, 0.1),
    ],
    ids=["absent masks overwritten", "prompted memory binarized"],
)
def test_the_stock_policy_is_a_mistake_for_language(
    policy: TrackPolicy,
    prompted: float,
    tracked: float,
    sam2: Sam2,
    clip: Tensor,
    prompt: Tensor,
    reference: Tracked,
) -> None:
    at_prompts, later = mismatch(follow(sam2, clip, prompt, policy), reference)
    assert at_prompts >= prompted and later > tracked


def test_conditioning_on_the_first_frame_alone_shows(
    sam2: Sam2, clip: Tensor, prompt: Tensor, reference: Tracked
) -> None:
    at_prompts, later = mismatch(follow(sam2, clip, prompt, conditioning=1), reference)
    assert at_prompts < MATCH and later > 0.1


def test_pixels_normalized_with_exact_constants_show(sam2: Sam2, prompt: Tensor) -> None:
    _, processor = build_model()
    frames = draw_sample(0).frames
    found = []
    for pixels in (
        processor.sam_pixel_values(frames),
        normalize(torch.from_numpy(frames), IMAGENET_MEAN, IMAGENET_STD),
    ):
        found.append(follow(sam2, pixels, prompt))
    assert difference(found[0], found[1], range(1)) > 1e-3


# ---- and with masks as prompts, where the reference is the library itself


@pytest.fixture(scope="module")
def masks() -> dict[int, Tensor]:
    return draw_masks(1, 0, 4, 9)


@pytest.fixture(scope="module")
def newer() -> Sam2:
    return build_sam2("2.1")


@pytest.fixture(scope="module")
def stock(newer: Sam2, clip: Tensor, masks: dict[int, Tensor]) -> Tracked:
    return propagate(newer, clip, {0: {frame: mask[0] for frame, mask in masks.items()}})


@torch.no_grad()
def track(
    sam2: Sam2,
    clip: Tensor,
    masks: dict[int, Tensor],
    policy: TrackPolicy = STOCK,
    *,
    exact: bool = True,
    ahead: bool = True,
    num_frames: int | None = NUM_FRAMES,
) -> Tracked:
    """Track from given masks; `exact` remembers them at full size, `ahead` gives all before the first frame."""
    tracker, found = Tracker(sam2, policy, num_frames=num_frames), {}
    for t in sorted(range(len(clip)), key=lambda t: (t not in masks, t) if ahead else (False, t)):
        features = sam2.encode_frames(clip[t : t + 1])
        if t in masks:
            found[t] = sam2.take_masks(features, masks[t])
            tracker.prompt(t, features, found[t], given=masks[t] if exact else None)
        else:
            found[t] = tracker.step(t, features)
    return {t: (found[t].mask_logits, found[t].presence_logits) for t in sorted(found)}


def test_masks_without_a_mistake_match(newer: Sam2, clip: Tensor, masks: dict[int, Tensor], stock: Tracked) -> None:
    assert difference(track(newer, clip, masks), stock, range(NUM_FRAMES)) < MATCH


@pytest.mark.parametrize(
    ("wrong", "tracked"),
    [
        ({"policy": SOFT}, 1000),  # absent masks are not overwritten
        ({"exact": False}, 1e-3),  # a given mask goes through the small grid before it is remembered
        ({"ahead": False}, 3e-3),  # later key frames are not read
        ({"num_frames": None}, 1e-3),  # the age of pointers is not counted in parts of the clip
    ],
    ids=["soft policy", "small memory mask", "past only", "length unknown"],
)
def test_a_mistake_with_masks_shows(
    wrong: dict[str, Any], tracked: float, newer: Sam2, clip: Tensor, masks: dict[int, Tensor], stock: Tracked
) -> None:
    found = difference(track(newer, clip, masks, **wrong), stock, range(NUM_FRAMES))
    assert found > tracked
