"""Check every member of `Family` for every family."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.small_families import OFFICIAL, build_config, build_family
from typing_extensions import get_protocol_members

from sa2va.model.families.catalog import FAMILIES
from sa2va.model.families.protocol import NO_GRID, Family, TextInput
from sa2va.model.processor import Processor, Prompts
from sa2va.model.sa2va import Sa2VA
from sa2va.types import Turn

MEMBERS = sorted(get_protocol_members(Family))
KINDS = {family: next(kind for kind, (name, _) in OFFICIAL.items() if name == family) for family in FAMILIES}
PICTURES = [np.random.default_rng(seed).integers(0, 256, (1, 50, 80, 3), dtype=np.uint8) for seed in (0, 1)]


def two_prompts(processor: Processor) -> Prompts:
    """Build a short and a long question, so that the first row is padded."""
    turns = [Turn(question=words, answer="") for words in ("What?", "Which of these is the larger one?")]
    return processor.prompts([(turn, [picture]) for turn, picture in zip(turns, PICTURES, strict=True)])


def check_image_token(family: Family, model: Sa2VA, processor: Processor) -> None:
    assert processor.tokenizer.convert_tokens_to_ids(family.image_token) == model.config.mllm["image_token_id"]


def check_picture_joint(family: Family, model: Sa2VA, processor: Processor) -> None:
    ids, index = processor.encode_question(Turn(question="Hm?", answer=""), [4, 4])
    shown = family.image_block(4) + family.picture_joint + family.image_block(4)
    assert shown in processor.tokenizer.decode(ids) and len(index) == 8


def check_takes_regions(family: Family, model: Sa2VA, processor: Processor) -> None:
    turn = Turn(question="What is region1?", answer="", regions=(np.ones((50, 80), bool),))
    if not family.takes_regions:
        with pytest.raises(ValueError, match="takes no regions"):
            processor.prompts([(turn, [PICTURES[0]])])
        return
    plain = processor.prompts([(Turn(question=turn.question, answer=""), [PICTURES[0]])])
    marked = processor.prompts([(turn, [PICTURES[0]])])
    assert len(marked.visual_index) == len(plain.visual_index) + model.config.tokens_per_tile


def check_takes_any_size(family: Family, model: Sa2VA, processor: Processor) -> None:
    grids = {picture.grid for picture in processor.read_pictures(PICTURES[0])}
    assert (grids != {NO_GRID}) is family.takes_any_size is bool(model.config.max_pixels)


def check_pixels(family: Family, model: Sa2VA, processor: Processor) -> None:
    """Pixels of the mean color become 0, those one standard deviation above it 1, up to rounding."""
    for distance in (0, 1):
        color = [round(255 * (m + distance * s)) for m, s in zip(family.pixel_mean, family.pixel_std, strict=True)]
        picture = np.full((40, 60, 3), color, np.uint8)
        values = family.read_picture(picture, model.config, is_frame=False).pixel_values
        assert torch.allclose(values, torch.full_like(values, distance), atol=0.5 / 255 / min(family.pixel_std) + 1e-5)


def check_layer_names(family: Family, model: Sa2VA, processor: Processor) -> None:
    names = list(model.mllm.native.state_dict())
    for (part, field), prefix in family.layer_names.items():
        found = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
        assert len(found) == model.config.mllm[part][field]


def check_build_mllm(family: Family, model: Sa2VA, processor: Processor) -> None:
    fresh = family.build_mllm(build_config(KINDS[model.config.family]).mllm)
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (fresh, model.mllm.native)]
    assert shapes[0] == shapes[1]


def check_language_model(family: Family, model: Sa2VA, processor: Processor) -> None:
    native = model.mllm.native
    of_language = {id(parameter) for parameter in family.language_model(native).parameters()}
    assert id(native.get_input_embeddings().weight) in of_language
    assert id(native.get_output_embeddings().weight) not in of_language
    assert not any(id(p) in of_language for name, p in native.named_parameters() if "vis" in name)


def check_vision_parts(family: Family, model: Sa2VA, processor: Processor) -> None:
    native = model.mllm.native
    parts = [family.vision_tower(native), family.vision_projector(native)]
    vision = {id(parameter) for part in parts for parameter in part.parameters()}
    text = {id(parameter) for parameter in family.language_model(native).parameters()}
    assert not vision & text
    assert vision | text | {id(p) for p in native.lm_head.parameters()} == {id(p) for p in native.parameters()}
    widths = {parameter.shape[0] for parameter in parts[1].parameters()}
    assert model.mllm.width in widths


def check_read_picture(family: Family, model: Sa2VA, processor: Processor) -> None:
    for is_frame in (False, True):
        picture = family.read_picture(PICTURES[0][0], model.config, is_frame=is_frame)
        grids = torch.tensor([picture.grid] if picture.grid != NO_GRID else []).reshape(-1, 3).long()
        tokens = family.encode_images(model.mllm.native, picture.pixel_values, grids).tokens
        assert tokens.shape == (picture.num_tokens, model.mllm.width)


def check_image_block(family: Family, model: Sa2VA, processor: Processor) -> None:
    ids = processor.tokenizer.encode(family.image_block(7), add_special_tokens=False)
    assert ids.count(model.config.mllm["image_token_id"]) == 7


def check_encode_images(family: Family, model: Sa2VA, processor: Processor) -> None:
    prompts, native = two_prompts(processor), model.mllm.native
    together = family.encode_images(native, prompts.pixel_values, prompts.grids)
    assert all(level.shape == together.tokens.shape for level in together.deepstack)
    parts = []
    for picture in PICTURES:
        own = processor.prompts([(Turn(question="", answer=""), [picture])])
        parts.append(family.encode_images(native, own.pixel_values, own.grids).tokens)
    assert torch.allclose(together.tokens, torch.cat(parts), atol=1e-5)


def check_positions(family: Family, model: Sa2VA, processor: Processor) -> None:
    prompts = two_prompts(processor)
    places = family.positions(model.mllm.native, prompts.input_ids, prompts.attention_mask, prompts.grids)
    one = processor.prompts([(Turn(question="What?", answer=""), [PICTURES[0]])])
    alone = family.positions(model.mllm.native, one.input_ids, one.attention_mask, one.grids)
    assert places.shape[-2:] == prompts.input_ids.shape
    assert torch.equal(places[..., :1, -one.input_ids.shape[1] :], alone)  # padding on the left moves nothing
    assert alone.flatten().unique().tolist() == list(range(int(alone.max()) + 1))


def check_states(family: Family, model: Sa2VA, processor: Processor) -> None:
    prompts, native = two_prompts(processor), model.mllm.native
    inputs = model.encode(prompts)
    states = family.run_text(native, inputs, None).states
    assert isinstance(inputs, TextInput) and states.shape == inputs.embeds.shape
    stock: dict[str, Any] = {"pixel_values": prompts.pixel_values, "attention_mask": prompts.attention_mask}
    if family.takes_any_size:
        is_image = prompts.input_ids == native.config.image_token_id
        stock |= {"image_grid_thw": prompts.grids, "mm_token_type_ids": is_image.int()}
    other = type(native)(native.config).eval()  # without our changes
    other.load_state_dict(native.state_dict())
    wanted = other(input_ids=prompts.input_ids, **stock).logits
    assert torch.allclose(family.logits(native, states)[:, -1], wanted[:, -1], atol=1e-5)


CHECKS: dict[str, Callable[[Family, Sa2VA, Processor], None]] = {
    "image_token": check_image_token,
    "picture_joint": check_picture_joint,
    "takes_regions": check_takes_regions,
    "takes_any_size": check_takes_any_size,
    "pixel_mean": check_pixels,
    "pixel_std": check_pixels,
    "layer_names": check_layer_names,
    "build_mllm": check_build_mllm,
    "language_model": check_language_model,
    "vision_tower": check_vision_parts,
    "vision_projector": check_vision_parts,
    "read_picture": check_read_picture,
    "image_block": check_image_block,
    "encode_images": check_encode_images,
    "positions": check_positions,
    "run_text": check_states,
    "logits": check_states,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("member", MEMBERS)
@torch.no_grad()
def test_every_family_does_what_the_protocol_says(member: str, family: str) -> None:
    assert member in CHECKS, f"Family.{member} is checked nowhere; add it to CHECKS"
    CHECKS[member](FAMILIES[family], *build_family(KINDS[family]))


def test_no_check_is_left_over() -> None:
    assert sorted(CHECKS) == MEMBERS
