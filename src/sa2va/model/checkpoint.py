"""Save and load a model folder: model.safetensors, config.json and the tokenizer's files, nothing else.

Flow: Sa2VA + Processor -> folder -> Sa2VA + Processor, strictly.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sa2va.model.config import Sa2VAConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"


def save_checkpoint(model: Sa2VA, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: torch.dtype) -> None:
    """Write a model folder; weights that are shared are written once per name."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / CONFIG_FILE).write_text(json.dumps(model.config.to_dict(), indent=1) + "\n")
    tokenizer.save_pretrained(folder)


def load_config(folder: Path) -> Sa2VAConfig:
    """Read config.json.

    Raises:
        ValueError: the folder or the file is missing, or not the config of a Sa2VA model.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is not a model folder: it has no {CONFIG_FILE}")
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON (line {error.lineno}); restore it from the source") from error
    return Sa2VAConfig.from_dict(values)


def load_checkpoint(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Sa2VA, Processor]:
    """Rebuild a model from its folder.

    Raises:
        ValueError: a file is missing or damaged, or a tensor is missing, unknown, of another shape or not finite.
    """
    config = load_config(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS_FILE}; copy the whole model folder")
    model = Sa2VA(config)
    try:
        with safe_open(path, framework="pt") as file:
            _fill(model, {name: file.get_tensor(name) for name in file.keys()}, path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    processor = Processor(config, PreTrainedTokenizerFast.from_pretrained(folder))
    return model.to(device, dtype).eval(), processor


def _fill(model: Sa2VA, tensors: dict[str, torch.Tensor], path: Path) -> None:
    wanted = model.state_dict()
    for name in sorted(set(wanted) ^ set(tensors)):
        raise ValueError(f"{path}: tensor {name} is {'missing' if name in wanted else 'unknown'}; wrong or mixed files")
    for name, value in tensors.items():
        if value.shape != wanted[name].shape:
            raise ValueError(f"{path}: {name} has shape {tuple(value.shape)}, expected {tuple(wanted[name].shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{path}: {name} holds values that are not finite; the file is damaged")
    model.load_state_dict(tensors, strict=True)
