"""Compare pixels, visual tokens and [SEG] states with recordings of the released inference code."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sa2va.checkpoints import key_map as keymap
from sa2va.checkpoints.published.layout import LAYOUTS
from sa2va.inference.decoding import Decoding, DecodingRules, TextStream
from sa2va.model.batch import Prompts
from sa2va.model.config import Sa2VAConfig
from sa2va.model.mllm import Mllm
from sa2va.model.pixels import IMAGENET_MEAN, IMAGENET_STD, normalize
from sa2va.model.processor import Processor
from sa2va.types import Turn

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
FAMILIES = {"internvl_qwen2": "internvl", "internvl_internlm2": "internvl", "qwen3vl": "qwen3_vl"}
NUM_KEYFRAMES = 5
CASES = [(variant, case) for variant in FAMILIES for case in ("image", "video")]
CASES += [("internvl_qwen2", "visual_prompt"), ("internvl_internlm2", "visual_prompt")]

pytestmark = pytest.mark.parity


@cache
def load(variant: str) -> tuple[Mllm, Processor]:
    folder, name = GOLDEN / variant, FAMILIES[variant]
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}")
    layout, tokenizer = LAYOUTS[name], PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    official = json.loads((folder / "config.json").read_text())
    fields = layout.config_from_official(official, tokenizer.get_vocab(), "")
    config = Sa2VAConfig(family=name, sam2={"image_size": 256}, **fields)
    mllm = Mllm(name, config.mllm).eval()
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = [key for key in file.keys() if not key.startswith(("grounding_encoder.", "text_hidden_fcs."))]
        steps = keymap.to_native(layout.key_rules(config.mllm), names)
        mllm.native.load_state_dict(dict(keymap.convert(steps, file.get_tensor)), strict=True)
    return mllm, Processor(config, tokenizer)


@cache
def recorded(variant: str, case: str) -> dict[str, Tensor]:
    load(variant)
    return load_file(GOLDEN / variant / f"{case}.safetensors")


def build_prompts(variant: str, case: str) -> Prompts:
    tensors = recorded(variant, case)
    question, regions = "Please segment the moving block.", ()
    if case == "visual_prompt":
        question, regions = "Please describe region1.", tuple(tensors["mask_prompts"].bool().numpy())
    frames = tensors["images_uint8"][:NUM_KEYFRAMES].numpy()
    return load(variant)[1].prompts([(Turn(question=question, answer="", regions=regions), [frames])])


@pytest.mark.parametrize(("variant", "case"), CASES)
def test_prompts_and_pixels_are_equal(variant: str, case: str) -> None:
    tensors, prompts = recorded(variant, case), build_prompts(variant, case)
    assert torch.equal(prompts.input_ids.flatten(), tensors["input_ids"].flatten())
    if "llm_tiles_uint8" in tensors:
        tiles = tensors["llm_tiles_uint8"].permute(0, 2, 3, 1).numpy()
        assert torch.equal(prompts.pixel_values, normalize(torch.from_numpy(tiles), IMAGENET_MEAN, IMAGENET_STD))
    if "pixel_values_u8" in tensors:
        assert torch.equal(prompts.pixel_values, (tensors["pixel_values_u8"].float() - 127.5) / 127.5)
        assert torch.equal(prompts.grids, tensors["image_grid_thw"])


@pytest.mark.parametrize(("variant", "case"), CASES)
@torch.no_grad()
def test_visual_tokens(variant: str, case: str) -> None:
    (mllm, processor), tensors = load(variant), recorded(variant, case)
    prompts = build_prompts(variant, case)
    visual = processor.family.encode_images(mllm.native, prompts.pixel_values, prompts.grids)
    for name in ("projected_vit", "visual"):
        if name in tensors:
            assert torch.allclose(visual.tokens, tensors[name].flatten(0, -2), rtol=0, atol=1e-5)
    for index, level in enumerate(visual.deepstack):
        assert torch.allclose(level, tensors[f"deepstack{index}"], rtol=0, atol=1e-5)
    embeds = mllm.embed_inputs(prompts).embeds
    if "inputs_embeds" in tensors:
        assert torch.allclose(embeds, tensors["inputs_embeds"], rtol=0, atol=1e-5)
    if "prompt_inputs_embeds_tail" in tensors:
        tail = tensors["prompt_inputs_embeds_tail"]
        assert torch.equal(embeds[:, -tail.shape[1] :], tail)


@pytest.mark.parametrize(("variant", "case"), CASES)
@torch.no_grad()
def test_states_of_the_recorded_answer(variant: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (mllm, processor), tensors = load(variant), recorded(variant, case)
    answer = tensors["forced_ids"].tolist()
    stream = TextStream(mllm)
    last = stream.start(mllm.embed_inputs(build_prompts(variant, case)))[:, -1]
    rules = DecodingRules(end_ids=processor.end_ids, seg_ids=processor.seg_tokens, max_new_tokens=100)
    decoding, coming = Decoding(mllm, stream, last, [rules]), iter(answer)
    monkeypatch.setattr(decoding, "_choose", lambda: torch.tensor([next(coming)]))
    decoding.finish()
    assert decoding.token_ids == [answer[:-1]]
    assert processor.decode(decoding.token_ids[0]) == "Sure, [SEG] and [SEG]."
    assert torch.allclose(torch.stack(decoding.seg_states[0]), tensors["seg_hidden"], rtol=0, atol=1e-5)
