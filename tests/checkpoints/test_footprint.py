"""Check the memory estimates against real models and against activations counted during a run."""

import numpy as np
import pytest
import torch
from support.live_memory import peak_numbers
from support.small_families import OFFICIAL, build_family
from support.small_model import build_model
from transformers import DynamicCache

from sa2va.checkpoints.device import GIB, Place
from sa2va.checkpoints.folder import build_empty
from sa2va.checkpoints.footprint import (
    CHOICES,
    TEXT_TOKENS,
    Need,
    count_keyframes,
    count_patches,
    count_working,
    find_place,
    measure,
    memory_need,
    to_gib,
)
from sa2va.checkpoints.released import RELEASED
from sa2va.model.families.catalog import find_family
from sa2va.model.sam.catalog import build_sam2

CPU, GPU = torch.device("cpu"), torch.device("meta")


@pytest.mark.parametrize(("choice", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_weights_are_counted_to_the_byte(choice: str, dtype: torch.dtype) -> None:
    model = build_model()[0].to(dtype)
    need = memory_need(measure(model.config, CPU), CHOICES[choice])
    stored = {
        name: sum(p.numel() * p.element_size() for p in part.parameters()) for name, part in model.named_children()
    }
    assert need.sam2 == stored["sam2"] + stored["projector"]
    assert need.vision + need.language == stored["mllm"]
    language = find_family(model.config.family).language_model(model.mllm.native)
    assert need.language >= sum(p.numel() * p.element_size() for p in language.parameters())


@pytest.mark.parametrize("kind", OFFICIAL)
def test_every_family_is_counted(kind: str) -> None:
    model, processor = build_family(kind)
    size = measure(model.config, CPU)
    assert size.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert 0 < size.vision_linear and 0 < size.vision_other and 0 < size.language_linear < size.parameters
    pictures = [np.zeros((h, w, 3), np.uint8) for h, w in ((30, 30), (40, 400), (500, 500))]
    tokens = [processor.read_pictures(picture[None])[0].num_tokens for picture in pictures]
    assert max(tokens) <= size.picture_tokens


def test_the_cache_is_counted_to_the_byte() -> None:
    model, _ = build_model()
    language = find_family(model.config.family).language_model(model.mllm.native)
    cache = DynamicCache()
    with torch.no_grad():
        language(inputs_embeds=torch.zeros(1, 7, model.mllm.width), past_key_values=cache, use_cache=True)
    stored = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    size = measure(model.config, CPU)
    assert stored == 7 * 4 * size.cache_per_token
    cache = memory_need(size, CHOICES["float32"]).cache
    assert cache == 4 * size.cache_per_token * (size.picture_tokens + TEXT_TOKENS)


# Parameters of the models that the released ones were made from, as their authors give them, in billions. The two
# with * share input and output embeddings, of which a Sa2VA model has one each.
BASES = {
    "ByteDance/Sa2VA-1B": 0.938,
    "ByteDance/Sa2VA-4B": 3.71,
    "ByteDance/Sa2VA-8B": 8.08,
    "ByteDance/Sa2VA-26B": 25.5,
    "ByteDance/Sa2VA-InternVL3-2B": 2.09,
    "ByteDance/Sa2VA-InternVL3-8B": 7.94,
    "ByteDance/Sa2VA-InternVL3-14B": 15.1,
    "ByteDance/Sa2VA-Qwen2_5-VL-3B": 3.75 + 0.31,  # *
    "ByteDance/Sa2VA-Qwen2_5-VL-7B": 8.29,
    "ByteDance/Sa2VA-Qwen3-VL-2B": 2.13 + 0.31,  # *
    "ByteDance/Sa2VA-Qwen3-VL-4B": 4.44 + 0.39,  # *
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_models_have_the_size_of_their_bases(name: str) -> None:
    size = measure(RELEASED[name].config, CPU)
    assert (size.parameters - size.sam2) / 1e9 == pytest.approx(BASES[name], rel=0.01)
    assert 0.224e9 < size.sam2 < 0.27e9  # SAM 2 large and the projector
    totals = [memory_need(size, choice).total for choice in CHOICES.values()]
    assert totals == sorted(totals, reverse=True)


def test_the_vision_tower_works_in_what_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RELEASED["ByteDance/Sa2VA-1B"].config
    native = build_empty(config).mllm.native
    tiles = torch.empty(13, 3, 448, 448, device="meta")
    peak = peak_numbers(native, lambda: native.model.get_image_features(pixel_values=tiles), monkeypatch)
    assert count_working(config, native.config, GPU) == pytest.approx(peak, rel=0.05)
    assert 13 * count_patches(config, 14, CPU) == count_patches(config, 14, GPU)


def test_sam2_works_in_what_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RELEASED["ByteDance/Sa2VA-Qwen3-VL-2B"].config  # its vision tower reads few patches
    model = build_empty(config)
    frames = torch.empty(5, 3, 1024, 1024, device="meta")  # the meta device stands for a GPU
    peak = peak_numbers(model.sam2, lambda: model.sam2.encode_frames(frames), monkeypatch)
    found = model.sam2.encode_frames(frames)
    features = sum(one.numel() for one in (found.embeds, *found.high_res))
    assert count_keyframes(config, 256, GPU) - features == pytest.approx(peak, rel=0.05)
    assert measure(config, GPU).working == count_keyframes(config, 256, GPU)


@pytest.mark.slow
def test_sam2_on_a_cpu_works_in_what_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RELEASED["ByteDance/Sa2VA-1B"].config
    sam2 = build_sam2(config.sam2).bfloat16().eval()
    frame = torch.zeros(1, 3, 1024, 1024, dtype=torch.bfloat16)
    peak = 2 * peak_numbers(sam2, lambda: sam2.encode_frames(frame), monkeypatch)  # 2 bytes a number
    features = config.num_keyframes * 4 * 256 * 64**2
    assert count_keyframes(config, 256, CPU) - features == pytest.approx(peak, rel=0.05)


def test_a_text_layer_works_in_what_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RELEASED["ByteDance/Sa2VA-1B"].config
    text = config.mllm["text_config"] | {"num_hidden_layers": 1, "vocab_size": 64}
    small = find_family("internvl").build_mllm(config.mllm | {"text_config": text, "vision_config": TINY_VISION})
    language = small.model.language_model
    states = torch.zeros(1, 256, text["hidden_size"])
    peak = peak_numbers(language, lambda: language(inputs_embeds=states, use_cache=False), monkeypatch)
    assert 256 * 3 * (text["hidden_size"] + text["intermediate_size"]) == pytest.approx(peak, rel=0.05)


TINY_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}


def place(device: str, free: float) -> Place:
    return Place(device, "", int(100 * GIB), int(free * GIB))


TEN = Need(vision=GIB, language=6 * GIB, sam2=GIB, cache=GIB, working=GIB)


@pytest.mark.parametrize(
    ("choice", "places", "expected"),
    [
        ("bfloat16", [place("cpu", 12)], "cpu"),
        ("bfloat16", [place("cpu", 11)], None),  # 0.9 of it are 9.9
        ("bfloat16", [place("cuda:0", 12), place("cpu", 50)], "cuda:0"),
        ("bfloat16", [place("cuda:0", 8), place("cuda:1", 12), place("cpu", 50)], "cuda:1"),
        ("bfloat16", [place("cuda:0", 8), place("cuda:1", 8), place("cpu", 2)], "cuda"),
        ("bfloat16", [place("cuda:0", 8), place("cpu", 50)], "cuda"),
        ("int8", [place("cuda:0", 8), place("cpu", 50)], "cpu"),
        ("int8", [place("cuda:0", 8), place("cuda:1", 8), place("cpu", 2)], None),
        ("bfloat16", [place("mps", 16), place("cpu", 16)], "mps"),
        ("int8", [place("mps", 16), place("cpu", 16)], "cpu"),
        ("int8", [place("cpu", 0)], None),
    ],
)
def test_where_a_model_fits(choice: str, places: list[Place], expected: str | None) -> None:
    assert find_place(TEN, CHOICES[choice], places) == expected


def test_the_parts_of_a_need_add_up() -> None:
    shown = to_gib(TEN)
    assert shown == {"vision": 1, "language": 6, "sam2": 1, "cache": 1, "working": 1, "total": 10}
    assert TEN.weights == 8 * GIB
