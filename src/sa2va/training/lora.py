"""Add LoRA weights to layers of Sa2VA, merge them, or save them as an adapter.

Flow: Sa2VA -> add_lora -> a training stage -> merge_lora, or save_adapter -> checkpoints/adapter.py loads it.
Source: LoRA, arXiv:2106.09685, and PEFT's file format, as implemented in peft.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sa2va.checkpoints.adapter import CONFIG_FILE, PREFIX, WEIGHTS_FILE
from sa2va.checkpoints.shards import save_tensors
from sa2va.files.atomic import whole_file, write_text
from sa2va.model.sa2va import Sa2VA

LORA_WEIGHTS = ("lora_A", "lora_B")
NAME = "default"  # of the adapter within PEFT's layers


def add_lora(
    model: Sa2VA,
    rank: int,
    *,
    alpha: int | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] = (),
    parts: Sequence[nn.Module] | None = None,
) -> None:
    """Add LoRA weights to every linear layer and convolution of some parts, in place; freeze all other weights.

    Args:
        model: model of any family; its language model head gets no LoRA weights.
        rank: rank of the LoRA weights.
        alpha: their scale is alpha / rank; None = 2 * rank, as in the paper.
        dropout: dropout before the LoRA weights, 0..1.
        targets: last components of the names of the layers, such as "q_proj"; none = every layer.
        parts: modules of the model; None = the text model.

    Raises:
        ValueError: peft is not installed, or no layer has one of the names.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ValueError("a LoRA adapter needs an extra; run: pip install 'sa2va[train]'") from error
    inside = {id(one) for part in parts or [model.mllm.text_model] for one in part.modules()}
    layers = [name for name, layer in model.named_modules() if id(layer) in inside and _takes_lora(layer)]
    chosen = [name for name in layers if not targets or name.rpartition(".")[2] in targets]
    if not chosen:
        known = sorted({name.rpartition(".")[2] for name in layers})
        raise ValueError(f"LoRA targets {list(targets)}: no layer has such a name; it has {', '.join(known)}")
    model.requires_grad_(False)
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank if alpha is None else alpha, lora_dropout=dropout, target_modules=chosen
    )
    inject_adapter_in_model(config, model)


def merge_lora(model: Sa2VA) -> None:
    """Merge the LoRA weights into their layers and remove them, in place.

    Raises:
        ValueError: a merged weight is not finite.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "lora_A"):
                layer: Any = child
                layer.merge(safe_merge=True)
                setattr(parent, name, layer.get_base_layer())
    vars(model).pop("peft_config", None)


def adapter_tensors(model: Sa2VA) -> dict[str, Tensor]:
    """Return the LoRA weights and the other trained weights under the names that PEFT gives them in a file.

    Names and shapes do not depend on the base weights' precision, so that a quantized base gives the same adapter.
    """
    tensors = {}
    for name, layer in _lora_layers(model):
        for weights in LORA_WEIGHTS:
            tensors[f"{PREFIX}{name}.{weights}.weight"] = getattr(layer, weights)[NAME].weight
    for module in trained_modules(model):
        for name, tensor in model.get_submodule(module).state_dict(keep_vars=True).items():
            tensors[f"{PREFIX}{module}.{name}"] = tensor
    return tensors


def save_adapter(model: Sa2VA, folder: Path, base: str, dtype: torch.dtype = torch.bfloat16) -> tuple[Path, Path]:
    """Write the trained weights in PEFT's format, for `sa2va.load(base, adapter=folder)`.

    Args:
        model: with LoRA weights; other parameters that require a gradient are saved with their whole module.
        folder: receives adapter_config.json and adapter_model.safetensors.
        base: name or folder of the base model, written down for people.
        dtype: precision of the file.

    Returns:
        The two files.

    Raises:
        ValueError: the folder cannot be written.
    """
    layers = dict(_lora_layers(model))
    assert layers, "an adapter needs LoRA weights; see add_lora"
    config: Any = getattr(model, "peft_config")[NAME]  # noqa: B009 - set by peft
    values = config.to_dict() | {
        "base_model_name_or_path": base,
        "target_modules": sorted(layers),
        "modules_to_save": trained_modules(model) or None,
        "inference_mode": True,
    }
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in adapter_tensors(model).items()}
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS_FILE) as draft:
        save_tensors(draft, tensors, {"format": "pt"})
    write_text(folder / CONFIG_FILE, json.dumps(values, indent=2, sort_keys=True, default=list) + "\n")
    return folder / CONFIG_FILE, folder / WEIGHTS_FILE


def load_adapter(model: Sa2VA, tensors: dict[str, Tensor], source: Path) -> None:
    """Continue from an adapter: copy its weights into a model whose trained parts were chosen already.

    Raises:
        ValueError: the adapter has other tensors than the model trains.
    """
    own = adapter_tensors(model)
    for name in sorted(set(own) ^ set(tensors)):
        where = "this run trains" if name in own else "the adapter has"
        raise ValueError(f"{source}: only {where} {name.removeprefix(PREFIX)}; train the parts that the adapter has")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}; this run trains {tuple(tensor.shape)}"
            raise ValueError(f"{source}: {name.removeprefix(PREFIX)} is {shapes}; set the LoRA rank of the adapter")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def trained_modules(model: nn.Module, prefix: str = "") -> list[str]:
    """List the modules outside LoRA that together hold every trained parameter, each as large as possible.

    PEFT saves a module as a whole and finds it by the end of its name, so a name that ends another one, and a
    container without a forward, are replaced by their children.
    """
    names = [name for name, _ in model.named_modules()]
    return list(_cover(model, prefix, names))


def _cover(module: nn.Module, name: str, names: Sequence[str]) -> Iterator[str]:
    if hasattr(module, "lora_A"):
        return
    needed = [parameter.requires_grad for parameter in module.parameters()]
    if not any(needed):
        return
    own = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    is_container = isinstance(module, nn.ModuleList | nn.ModuleDict)
    is_clear = bool(name) and sum(other.endswith(name) for other in names) == 1
    if own or (all(needed) and is_clear and not is_container):
        yield name
        return
    for child_name, child in module.named_children():
        yield from _cover(child, f"{name}.{child_name}" if name else child_name, names)


def _takes_lora(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d) and getattr(layer, "groups", 1) == 1


def _lora_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, layer) for name, layer in model.named_modules() if hasattr(layer, "lora_A"))
