"""Convert a model folder: from the published layout to ours, back, or to another precision.

Flow: folder -> open_checkpoint -> one tensor after the other -> write_shards + config.json + tokenizer -> new folder.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sa2va.checkpoints.folder import CONFIG_FILE, Checkpoint, has_weights, is_finite, open_checkpoint, read_config
from sa2va.checkpoints.key_map import convert
from sa2va.checkpoints.pickled import PickledFiles, list_pickles
from sa2va.checkpoints.published import layout
from sa2va.checkpoints.shards import SHARD_BYTES, write_shards
from sa2va.files.atomic import refusals, write_text

Progress = Callable[[Iterable[Any], int], Iterable[Any]]  # takes the tensors and their number; yields the same tensors


def quietly(tensors: Iterable[Any], count: int) -> Iterable[Any]:
    return tensors


def open_source(folder: Path, *, unsafe_pickle: bool = False) -> Checkpoint:
    """Open a model folder; pickled weights are read only if allowed and there are no safetensors.

    Raises:
        ValueError: as `open_checkpoint`.
    """
    if unsafe_pickle and not has_weights(folder) and folder.is_dir():
        paths = list_pickles(folder)
        if paths:
            return open_checkpoint(folder, PickledFiles(paths))
    return open_checkpoint(folder)


def write_folder(
    checkpoint: Checkpoint,
    target: Path,
    *,
    to_published: bool = False,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = quietly,
) -> None:
    """Write a model to an empty folder.

    Args:
        checkpoint: the model.
        target: exists and is empty.
        to_published: write the published layout instead of ours.
        dtype: None keeps the dtype of each tensor.
        shard_bytes: largest size of a weight file.
        progress: wraps the iterator over the written tensors, for a progress bar.

    Raises:
        ValueError: the published layout cannot express the model, or a tensor is not finite in this precision.
    """
    config = describe(checkpoint, to_published=to_published, dtype=dtype)

    def cast(name: str, tensor: Tensor) -> Tensor:
        if dtype is None or not tensor.is_floating_point():
            return tensor
        changed = tensor.to(dtype)
        if dtype == torch.float16 and not changed.is_meta and not is_finite(changed):
            raise ValueError(f"{checkpoint.folder}: {name} holds values beyond the range of float16; use bfloat16")
        return changed

    outlines = checkpoint.files.outlines
    # Wide types first, so that every tensor of a file is aligned to its own width.
    steps = sorted(
        checkpoint.steps(published_layout=to_published),
        key=lambda step: -cast(step.sources[0], outlines[step.sources[0]]).element_size(),
    )
    made = dict(convert(steps, lambda name: cast(name, outlines[name])))
    tensors = convert(steps, lambda name: cast(name, checkpoint.read(name)))
    write_shards(target, made, progress(tensors, len(made)), shard_bytes)
    write_text(target / CONFIG_FILE, json.dumps(config, indent=1) + "\n")
    with refusals(target):
        checkpoint.tokenizer.save_pretrained(target)


def describe(checkpoint: Checkpoint, *, to_published: bool, dtype: torch.dtype | None) -> dict[str, Any]:
    """Return the content of config.json for the converted model.

    Raises:
        ValueError: the published layout cannot express the model.
    """
    if not to_published:
        return checkpoint.config.to_dict()
    if checkpoint.is_published:
        config = read_config(checkpoint.folder)
    else:
        config = layout.config_to_official(checkpoint.config)
    kinds = [outline.dtype for outline in checkpoint.files.outlines.values()]
    dtype = dtype or max(set(kinds), key=kinds.count)
    return config | {"torch_dtype": str(dtype).removeprefix("torch.")}
