"""Check the names of SAM 2 against random models and recorded key maps."""

import json
from pathlib import Path

import pytest
import torch
from support.published_folder import SMALL_SAM2
from transformers import Sam2VideoModel

from sa2va.checkpoints.key_map import convert, to_native, to_official
from sa2va.checkpoints.sam2_keys import sam2_rules
from sa2va.checkpoints.sam2_sizes import SIZES, Sam2Size, config_from_shapes, sam2_config
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
def test_a_raw_checkpoint_is_recognized_by_its_shapes(name: str, version: str) -> None:
    config = sam2_config(SIZES[name], version=version)
    with torch.device("meta"):
        model = Sam2VideoModel(Sam2.build_config(config))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(MILLION_PARAMETERS[name], abs=0.07)
    state = model.state_dict()
    official = dict(convert(to_official(sam2_rules(raw=True), list(state)), state.__getitem__))
    assert config_from_shapes({key: tensor.shape for key, tensor in official.items()}) == config


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
