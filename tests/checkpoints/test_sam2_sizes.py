"""Check the sizes of SAM 2 against the published override, and configurations that it cannot express."""

import pytest
import torch
from support.published_folder import SMALL_SAM2

from sa2va.checkpoints.sam2_sizes import (
    LARGE,
    config_from_official,
    config_from_shapes,
    config_to_official,
    sam2_config,
)
from sa2va.model.sam.sam2 import Sam2


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
