"""Write a very small model of any published family as a folder in the published layout."""

import copy
import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from support.small_families import OFFICIAL, build_tokenizer
from torch import Tensor

from sa2va.checkpoints.key_map import convert, to_official
from sa2va.checkpoints.published import layout
from sa2va.model.sa2va import Sa2VA

SMALL_SAM2 = {
    "image_size": 64, "d_model": 64, "embed_dim": 8, "num_heads": 1, "stages": [1, 1, 2, 1], "global_att_blocks": [3],
    "bkg": [4, 4], "window_spec": [4, 2, 2, 2], "mem_layers": 1, "mem_ff": 32, "mem_out": 64,
}  # fmt: skip
KINDS = tuple(OFFICIAL)


@cache
def make_published(kind: str) -> tuple[Sa2VA, dict[str, object], dict[str, Tensor]]:
    """Return a model with random weights, its published config.json and its tensors by published name."""
    official = copy.deepcopy(OFFICIAL[kind][1]) | {"sam2_tiny_override": SMALL_SAM2}
    config = layout.config_from_official(official, build_tokenizer())
    torch.manual_seed(1)
    model = Sa2VA(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    state = model.state_dict()
    steps = to_official(layout.key_rules(config), list(state))
    tensors = {name: tensor.contiguous() for name, tensor in convert(steps, state.__getitem__)}
    return model, official, tensors


def write_published(folder: Path, kind: str = "internvl_qwen2", num_shards: int = 1) -> dict[str, Tensor]:
    """Write the folder; return its tensors."""
    _, official, tensors = make_published(kind)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(official))
    build_tokenizer().save_pretrained(folder)
    if num_shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return tensors
    names = sorted(tensors)
    places = {}
    for n in range(num_shards):
        file_name = f"model-{n + 1:05}-of-{num_shards:05}.safetensors"
        save_file({name: tensors[name] for name in names[n::num_shards]}, folder / file_name)
        places |= dict.fromkeys(names[n::num_shards], file_name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return tensors
