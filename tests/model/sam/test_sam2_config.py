"""Check that each part of SAM 2's configuration is parsed with its own class."""

from typing import Any

import pytest

from sa2va.model.sam.edgetam import EdgeTam
from sa2va.model.sam.sam2 import Sam2
from sa2va.model.sam.sam3 import Sam3Tracker


@pytest.mark.parametrize("kind", [Sam2, EdgeTam, Sam3Tracker])
def test_parts_are_of_their_own_class(kind: type[Sam2], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(kind.CONFIG_CLASS, "__init__", lambda self, **given: seen.update(given))
    kind.build_config({"image_size": 64, "mask_decoder_config": {"mlp_dim": 96}, "prompt_encoder_config": {}})
    parts = kind.CONFIG_CLASS.sub_configs
    assert type(seen["mask_decoder_config"]) is parts["mask_decoder_config"]
    assert seen["mask_decoder_config"].mlp_dim == 96
    assert type(seen["prompt_encoder_config"]) is parts["prompt_encoder_config"]
    assert seen["image_size"] == 64
