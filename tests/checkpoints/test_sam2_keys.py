"""Check the names and sizes of SAM 2 against random models and recorded key maps."""

import json
from pathlib import Path

import pytest
import torch
from support.published_folder import SMALL_SAM2
from transformers import Sam2VideoModel

from sa2va.checkpoints.key_map import convert, to_native, to_official
from sa2va.checkpoints.sam2_keys import (
    LARGE,
    SIZES,
    Sam2Size,
    config_from_official,
    config_from_shapes,
    config_to_official,
    sam2_config,
    sam2_rules,
)
from sa2va.model.sam.sam2 import Sam2

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
PREFIX = "grounding_encoder.sam2_model."
MILLION_PARAMETERS = {"tiny": 38.9, "small": 46.0, "base_plus": 80.8, "large": 224.4}  # of the release


@pytest.mark.parametrize("version", ["2.0", "2.1"])
@pytest.mark.parametrize("raw", [False, True])
def test_a_model_comes_back_from_official_names(raw: bool, version: str) -> None:
    torch.manual_seed(0)
    model = Sam2VideoModel(Sam2.build_config(sam2_config(Sam2Size(**SMALL_SAM2), version=version)))
    state = model.state_dict()
    state["shared_image_embedding.positional_embedding"] = state["prompt_encoder.shared_embedding.positional_embedding"]
    rules = sam2_rules(raw=raw)
    official = dict(convert(to_official(rules, list(state)), state.__getitem__))
    assert ("no_obj_embed_spatial" in official) == ("obj_ptr_tpos_proj.weight" in official) == (version == "2.1")
    assert f"memory_encoder.fuser.layers.1.{'gamma' if raw else 'g_weight'}" in official
    back = dict(convert(to_native(rules, list(official)), official.__getitem__))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize(("name", "version"), [*((name, "2.1") for name in SIZES), ("tiny", "2.0")])
def test_a_raw_checkpoint_is_recognised_by_its_shapes(name: str, version: str) -> None:
    config = sam2_config(SIZES[name], version=version)
    with torch.device("meta"):
        model = Sam2VideoModel(Sam2.build_config(config))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(MILLION_PARAMETERS[name], abs=0.07)
    state = model.state_dict()
    official = dict(convert(to_official(sam2_rules(raw=True), list(state)), state.__getitem__))
    assert config_from_shapes({key: tensor.shape for key, tensor in official.items()}) == config


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, "image_encoder.trunk.patch_embed.proj.weight is missing; expected a SAM 2 checkpoint"),
        ({"image_encoder.trunk.patch_embed.proj.weight": torch.Size((7, 3, 7, 7))}, "image encoder of width 7 with 0"),
    ],
)
def test_other_checkpoints_are_refused(shapes: dict[str, torch.Size], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_shapes(shapes)


def test_published_models_contain_the_large_one_of_version_2_0() -> None:
    config = Sam2.build_config(config_from_official({}))
    assert config.vision_config.backbone_config.blocks_per_stage == [2, 6, 36, 4]
    assert config.memory_attention_rope_feat_sizes == [64, 64]
    assert not config.enable_occlusion_spatial_embedding
    assert not config.enable_temporal_pos_encoding_for_object_pointers
    assert config_to_official(sam2_config(LARGE)) == {}


def test_a_small_one_is_written_out() -> None:
    official = {"sam2_tiny_override": SMALL_SAM2}
    assert config_to_official(config_from_official(official)) == official


@pytest.mark.parametrize("change", [{"num_maskmem": 5}, {"mask_decoder_config": {"hidden_size": 64, "mlp_dim": 9}}])
def test_what_the_published_layout_cannot_say_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="cannot be written in the published layout"):
        config_to_official(config_from_official({"sam2_tiny_override": SMALL_SAM2}) | change)
    with pytest.raises(ValueError, match="cannot be written in the published layout"):
        config_to_official(sam2_config(version="2.1"))


def test_an_incomplete_override_is_refused() -> None:
    with pytest.raises(ValueError, match="sam2_tiny_override does not describe a SAM 2 model"):
        config_from_official({"sam2_tiny_override": {"image_size": 64}})


@pytest.mark.parity
@pytest.mark.parametrize("variant", ["internvl_qwen2", "internvl_internlm2", "qwen3vl"])
def test_recorded_key_maps_agree(variant: str) -> None:
    path = GOLDEN / variant / "key_map.json"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    recorded = {name.removeprefix(PREFIX): v for name, v in json.loads(path.read_text()).items() if PREFIX in name}
    found = {source: step.targets for step in to_native(sam2_rules(), list(recorded)) for source in step.sources}
    for name, values in recorded.items():
        assert found[name] == tuple(native.removeprefix("sam2_video: ").split("[")[0] for native in values["native"])
