"""Open, load and save a model folder: safetensors, config.json and the tokenizer's files, nothing else.

Flow: folder in our layout or the published one -> open_checkpoint (headers, all checks) -> load_weights, one tensor
    after the other into an empty model -> Sa2VA + Processor; Sa2VA -> save_checkpoint -> folder.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sa2va.checkpoints.key_map import Step, convert, keep, to_native, to_official
from sa2va.checkpoints.native import compute_buffers, one_line
from sa2va.checkpoints.pickled import list_pickles
from sa2va.checkpoints.preflight import check_layers, rehearse
from sa2va.checkpoints.published import layout
from sa2va.checkpoints.shards import (
    INDEX_FILE,
    WEIGHTS_FILE,
    SafetensorFiles,
    TensorFiles,
    list_shards,
    write_shards,
)
from sa2va.checkpoints.tokenizers import load_tokenizer
from sa2va.files.atomic import whole_folder, write_text
from sa2va.files.json_file import read_json
from sa2va.model.config import Sa2VAConfig
from sa2va.model.config_limits import check_values, drop_implementations
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.torch_defaults import plain_defaults

CONFIG_FILE = "config.json"
MAX_CONFIG_BYTES = 4 * 2**20


@plain_defaults()
def build_empty(config: Sa2VAConfig) -> Sa2VA:
    """Build a model on the meta device: names, shapes and modules without any memory.

    Raises:
        ValueError: the configuration does not describe a model.
    """
    try:
        with torch.device("meta"):
            return Sa2VA(config)
    except Exception as error:  # a native class can raise anything, but the configuration is its only input
        kind, reason = type(error).__name__, one_line(error)
        raise ValueError(f"{CONFIG_FILE} does not describe a model ({kind}: {reason})") from error


@dataclass(frozen=True)
class Checkpoint:
    """Opened and checked model folder; only names and shapes of its tensors have been read."""

    folder: Path
    config: Sa2VAConfig
    is_published: bool  # layout of the files: published, or ours
    tokenizer: PreTrainedTokenizerBase
    files: TensorFiles

    @cached_property
    def empty(self) -> Sa2VA:
        """The model on the meta device."""
        return build_empty(self.config)

    @property
    def num_parameters(self) -> int:
        """Number of values in the files."""
        return sum(outline.numel() for outline in self.files.outlines.values())

    def steps(self, *, published_layout: bool = False) -> tuple[Step, ...]:
        """Plan the conversion of the files' tensors to one layout."""
        names = list(self.files.outlines)
        if published_layout == self.is_published:
            return tuple(Step((name,), (name,), keep) for name in names)
        plan = to_official if published_layout else to_native
        return plan(layout.key_rules(self.config), names)

    def read(self, name: str) -> Tensor:
        """Return one tensor of the files.

        Raises:
            ValueError: it holds values that are not finite.
        """
        value = self.files.read(name)
        if not is_finite(value):
            raise ValueError(
                f"{self.files.file_of(name)}: {name} holds values that are not finite; the file is damaged"
            )
        return value

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Read all tensors under our names, one after the other."""
        return convert(self.steps(), self.read)


def is_finite(value: Tensor) -> bool:
    """Return whether a tensor is free of NaN and infinity, without allocating a second one of its size."""
    if not value.numel() or not value.is_floating_point():
        return True
    low, high = value.aminmax()
    return bool(low.isfinite() & high.isfinite())


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check the config.json of either layout.

    Raises:
        ValueError: it is missing or damaged, or a value has the wrong type or is out of range.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} is not a model folder: it has no {CONFIG_FILE}")
    values = read_json(path, MAX_CONFIG_BYTES)
    check_values(values, f"{path}: ")
    return drop_implementations(values)


def load_config(folder: Path) -> Sa2VAConfig:
    """Read config.json of a folder in our layout or, with its tokenizer, of a published one.

    Raises:
        ValueError: the folder or the file is missing, or not the config of a Sa2VA model.
    """
    values = read_config(folder)
    if layout.is_published(values):
        return layout.config_from_official(values, load_tokenizer(folder))
    return _own_config(values, folder)


def _own_config(values: dict[str, Any], folder: Path) -> Sa2VAConfig:
    kind = values.get("model_type", "sa2va")
    if kind != "sa2va":
        raise ValueError(f"{folder / CONFIG_FILE}: unknown architecture {kind!r}; expected a Sa2VA model")
    return Sa2VAConfig.from_dict(values)


def has_weights(folder: Path) -> bool:
    """Return whether a folder has safetensors."""
    return (folder / WEIGHTS_FILE).is_file() or (folder / INDEX_FILE).is_file()


def open_files(folder: Path) -> SafetensorFiles:
    """Open the weights of a folder.

    Raises:
        ValueError: there are none, or a file is missing or damaged.
    """
    if not has_weights(folder):
        pickled = list_pickles(folder)
        if pickled:
            raise ValueError(
                f"{folder} holds only {pickled[0].name}, a pickle, which can run code when it is opened; "
                f"if you trust it, make a safe copy: sa2va convert {folder} NEW_FOLDER --unsafe-pickle-ok"
            )
        raise ValueError(f"{folder} has no {WEIGHTS_FILE}; copy the whole model folder")
    return SafetensorFiles(list_shards(folder))


@plain_defaults()
def open_checkpoint(folder: Path, files: TensorFiles | None = None) -> Checkpoint:
    """Open a model folder and check everything that can be checked without reading the weights.

    Args:
        folder: in our layout or the published one.
        files: its weights, if they are not safetensors.

    Raises:
        ValueError: a file is missing or damaged, the architecture is unknown, config and tokenizer disagree, or a
            tensor is missing, unknown or of another shape.
    """
    values = read_config(folder)
    is_published = layout.is_published(values)
    if is_published:
        tokenizer = load_tokenizer(folder)
        config = layout.config_from_official(values, tokenizer)
    else:
        config = _own_config(values, folder)
        tokenizer = load_tokenizer(folder)
        layout.check_tokens(config, tokenizer, exact=False)
    checkpoint = Checkpoint(folder, config, is_published, tokenizer, files or open_files(folder))
    check_outlines(checkpoint)
    try:
        rehearse(checkpoint.empty)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG_FILE}: {error}") from error
    return checkpoint


def check_outlines(checkpoint: Checkpoint) -> None:
    """Compare the names and shapes in the files with those of the model.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape.
    """
    files = checkpoint.files
    try:
        steps = checkpoint.steps()
        made = dict(convert(steps, files.outlines.__getitem__))
        check_layers(checkpoint.config, made)
        wanted = checkpoint.empty.state_dict()
    except ValueError as error:
        raise ValueError(f"{checkpoint.folder}: {error}") from error
    sources = {target: step.sources[0] for step in steps for target in step.targets}
    for name, source in sources.items():
        if name not in wanted:
            raise ValueError(f"{files.file_of(source)}: tensor {source} is unknown; wrong or mixed files")
        if made[name].shape != wanted[name].shape:
            shape, expected = tuple(files.outlines[source].shape), tuple(wanted[name].shape)
            part = "" if shape == tuple(made[name].shape) else f" for {name}, which is converted from it"
            raise ValueError(f"{files.file_of(source)}: {source} has shape {shape}, expected {expected}{part}")
    for name in sorted(wanted.keys() - made.keys()):
        known_as = _name_in_files(checkpoint, name)
        raise ValueError(f"{checkpoint.folder}: tensor {known_as} is missing from the weights; wrong or mixed files")


def _name_in_files(checkpoint: Checkpoint, name: str) -> str:
    """Return the name of one of our tensors in the layout of the files."""
    if not checkpoint.is_published:
        return name
    steps = to_official(layout.key_rules(checkpoint.config), list(checkpoint.empty.state_dict()))
    return next(step.targets[0] for step in steps if name in step.sources)


def load_checkpoint(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Sa2VA, Processor]:
    """Load a model from its folder, in our layout or the published one.

    Raises:
        ValueError: as `open_checkpoint` and `load_weights`.
    """
    return load_weights(open_checkpoint(folder), device, dtype)


@plain_defaults()
def load_weights(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> tuple[Sa2VA, Processor]:
    """Read the weights of an opened model folder.

    Peak memory is that of the model and one tensor. Buffers such as rotary frequencies stay float32.

    Raises:
        ValueError: a tensor is not finite, or beyond the range of float16.
    """
    values = {}
    for name, value in checkpoint.tensors():
        # Always a copy: a memory-mapped tensor would change with its file.
        values[name] = value.to(device, dtype if value.is_floating_point() else value.dtype, copy=True).contiguous()
        if dtype == torch.float16 and not is_finite(values[name]):
            raise ValueError(
                f"{checkpoint.folder}: {name} holds values beyond the range of float16; use bfloat16 or float32"
            )
    model = checkpoint.empty
    model.load_state_dict(values, strict=True, assign=True)
    for native in (model.mllm.native, model.sam2.native):
        compute_buffers(native, device)
        native.tie_weights()
    left = [name for name, value in (*model.named_parameters(), *model.named_buffers()) if value.is_meta]
    assert not left, f"no values for {left}"
    return model.eval(), Processor(checkpoint.config, checkpoint.tokenizer)


def save_checkpoint(model: Sa2VA, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: torch.dtype) -> None:
    """Write a model folder. Shared weights are written once per name.

    Files of an earlier model in `folder` are replaced when the new ones are complete; other files stay.

    Raises:
        ValueError: the disk refuses a file.
    """
    state = model.state_dict()
    outlines = {name: torch.empty(value.shape, dtype=dtype, device="meta") for name, value in state.items()}
    with whole_folder(folder) as draft:
        write_shards(draft, outlines, ((name, value.detach().to("cpu", dtype)) for name, value in state.items()))
        write_text(draft / CONFIG_FILE, json.dumps(model.config.to_dict(), indent=1) + "\n")
        tokenizer.save_pretrained(draft)
        is_sharded = (draft / INDEX_FILE).is_file()
    # A single file or an index of an earlier model would be read in place of the new weights.
    (folder / (WEIGHTS_FILE if is_sharded else INDEX_FILE)).unlink(missing_ok=True)
