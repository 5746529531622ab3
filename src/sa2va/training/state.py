"""Save and restore the training state of a stage atomically: safetensors and JSON, one folder of shards per process.

Flow: trainer.py -> save_state every few minutes -> after an interruption latest_state + read_state -> trainer.py.
A state is a folder `state-<step>` with `state.json` and one `shard-<process>` folder for each process that has written.
It is written under a temporary name, flushed to the disk and renamed; only then the previous state is deleted. It is
read by any number of processes, whether they share their parameters or each hold all of them.
Source: the layout follows torch.distributed.checkpoint, whose own files are pickles, or safetensors that are built in
    memory as a whole; these are written tensor by tensor.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from sa2va.checkpoints.shards import SafetensorFiles, list_shards, write_shards
from sa2va.files.atomic import refusals, refusals_in, whole_folder, write_text
from sa2va.training.optim import trained_parameters
from sa2va.training.processes import agree_on, any_error, is_main_process, process_rank
from sa2va.training.sharding import local_part
from sa2va.training.stage import FREE_FIELDS

FORMAT = "sa2va-training-state-3"
FINAL = "final"
FINISHED_FILE = "finished.json"
STATE_FILE, SHARD_FILE = "state.json", "shard.json"
TRAINED = StateDictOptions(ignore_frozen_params=True)  # frozen weights are not saved, since a run rebuilds them
KEYS = {"step", "files", "record"}

Parts = Mapping[str, Mapping[str, Tensor]]  # part -> name -> tensor


@dataclass(frozen=True)
class State:
    """Training state of a stage: "weights", and of an unfinished stage "optimizer" and "ema"."""

    step: int  # number of finished steps
    record: dict[str, Any]  # config and counters, JSON values
    parts: Parts


@dataclass(frozen=True)
class Chunk:
    """Contiguous block of a saved tensor."""

    files: SafetensorFiles
    key: str  # name of the block in the files
    offsets: tuple[int, ...]  # of its first element in the whole tensor


@dataclass(frozen=True)
class SavedTensor:
    """Tensor of a state, in one or several chunks."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    chunks: tuple[Chunk, ...]

    def read(self) -> Tensor:
        """Return the whole tensor on the CPU."""
        return self.copy_to(torch.empty(self.shape, dtype=self.dtype))

    def copy_to(self, target: Tensor) -> Tensor:
        """Fill a tensor of the same shape, of which this process may hold only a shard; return it."""
        local, offsets = local_part(target)
        for chunk in self.chunks:
            block = chunk.files.read(chunk.key)
            inner, outer = [], []
            for start, size, first, extent in zip(chunk.offsets, block.shape, offsets, local.shape, strict=True):
                low, high = max(start, first), min(start + size, first + extent)
                outer.append(slice(low - first, high - first))
                inner.append(slice(low - start, high - start))
            if all(part.start < part.stop for part in outer):
                local[tuple(outer)] = block[tuple(inner)].to(local)
        return target


@dataclass(frozen=True)
class SavedState:
    """State on the disk; its tensors are read on demand."""

    path: Path
    step: int
    record: dict[str, Any]
    parts: dict[str, dict[str, SavedTensor]]

    def fill(self, part: str, targets: Mapping[str, Tensor]) -> None:
        """Copy a part into tensors, by name; check every name and shape.

        Raises:
            ValueError: a name or shape differs; the message gives the first one.
        """
        saved = self.parts.get(part, {})
        fix = "it was saved by another model: use a new output folder"
        for name in sorted(set(targets) ^ set(saved)):
            where = "the model" if name in targets else "the state"
            raise ValueError(f"{self.path}: only {where} has {part}/{name}; {fix}")
        for name, target in targets.items():
            if saved[name].shape != tuple(target.shape):
                sizes = f"{saved[name].shape} saved, {tuple(target.shape)} in the model"
                raise ValueError(f"{self.path}: {part}/{name} is {sizes}; {fix}")
        with torch.no_grad():
            for name, target in targets.items():
                saved[name].copy_to(target)


def save_state(folder: Path, state: State, *, name: str | None = None) -> Path:
    """Write a state into `folder` and delete previous states. Every process of a run must call it.

    Args:
        folder: folder of the stage, on a disk that all processes see; created if missing.
        state: state to write; tensors may be on any device, and sharded over the processes.
        name: name of the state's folder; by default `state-<step>`.

    Returns:
        The folder written.

    Raises:
        ValueError: the disk of a process is full or read-only; partial files are removed.
    """
    target = folder / (name or f"state-{state.step:08d}")
    with ExitStack() as stack:
        draft = target
        with any_error():
            if is_main_process():
                draft = stack.enter_context(whole_folder(target))
        draft = Path(agree_on(str(draft)))
        with any_error(), refusals_in(draft, target):
            _write_shard(draft / f"shard-{process_rank():05d}", state.parts)
        if is_main_process():
            _finish(draft, state)
            if target.exists():
                shutil.rmtree(target)
    if is_main_process():
        with refusals(folder):
            for old in folder.glob("state-*"):
                if old != target:
                    shutil.rmtree(old)
    return target


def _write_shard(folder: Path, parts: Parts) -> None:
    """Write the blocks that this process holds; a tensor that all hold is written by the main process alone."""
    blocks: dict[str, Tensor] = {}
    index: dict[str, Any] = {}
    first: dict[tuple[Any, ...], str] = {}
    for part, tensors in parts.items():
        for name, tensor in tensors.items():
            if not isinstance(tensor, DTensor) and not is_main_process():
                continue
            local, offsets = local_part(tensor)
            if tensor.numel() and not local.numel():
                continue
            key = f"{part}/{name}"
            same = (local.data_ptr(), tuple(local.shape), local.stride(), local.dtype) if local.numel() else (key,)
            block = first.setdefault(same, key)  # tied tensors are written once
            blocks.setdefault(block, local)
            index[key] = {"shape": list(tensor.shape), "offsets": list(offsets), "block": block}
    if not index:
        return
    folder.mkdir()
    by_width = sorted(blocks, key=lambda key: -blocks[key].element_size())  # for the alignment within a file
    outlines = {key: torch.empty(blocks[key].shape, dtype=blocks[key].dtype, device="meta") for key in by_width}
    write_shards(folder, outlines, ((key, blocks[key].detach().cpu()) for key in by_width))
    write_text(folder / SHARD_FILE, json.dumps(index))


def _finish(draft: Path, state: State) -> None:
    """Write the record of a state whose shards are complete."""
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    sizes = {path.relative_to(draft).as_posix(): path.stat().st_size for path in files}
    document = {"format": FORMAT, "step": state.step, "files": sizes, "record": state.record}
    write_text(draft / STATE_FILE, json.dumps(document, indent=1))


def latest_state(folder: Path) -> Path | None:
    """Return the newest state in a stage's folder: the final one, else that of the highest step, else None."""
    if (folder / FINAL).is_dir():
        return folder / FINAL
    states = sorted(path for path in folder.glob("state-*") if path.is_dir())
    return states[-1] if states else None


def read_state(path: Path) -> SavedState:
    """Read the record of a state folder; its tensors are read by `SavedState.fill`.

    Raises:
        ValueError: a file is truncated, missing or in another format; the message names it.
    """
    fix = f"delete {path} to go back to what was saved before it, or start over in a new output folder"
    try:
        record = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}/{STATE_FILE} is missing or damaged ({type(error).__name__}); {fix}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT or not KEYS <= set(record):
        raise ValueError(f"{path}/{STATE_FILE} is not a training state of this version ({FORMAT}); {fix}")
    for name, size in record["files"].items():
        file = path / name
        found = file.stat().st_size if file.is_file() else 0
        if found != size:
            raise ValueError(f"{file} has {found} bytes, expected {size}: the state is truncated; {fix}")
    try:
        shards = [_Shard(path / name) for name in sorted(record["files"]) if Path(name).name == SHARD_FILE]
        parts = _join(shards)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}); {fix}") from error
    return SavedState(path=path, step=record["step"], record=record["record"], parts=parts)


class _Shard:
    """Folder that one process has written."""

    def __init__(self, index: Path) -> None:
        self.index: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
        self.files = SafetensorFiles(list_shards(index.parent))

    def chunk(self, key: str) -> Chunk:
        return Chunk(self.files, self.index[key]["block"], tuple(self.index[key]["offsets"]))

    @cached_property
    def outlines(self) -> dict[str, Tensor]:
        return {key: self.files.outlines[entry["block"]] for key, entry in self.index.items()}


def _join(shards: Sequence[_Shard]) -> dict[str, dict[str, SavedTensor]]:
    """Collect the chunks of each tensor; refuse a tensor of which a chunk is missing."""
    parts: dict[str, dict[str, SavedTensor]] = {}
    for key in dict.fromkeys(key for shard in shards for key in shard.index):
        holders = [shard for shard in shards if key in shard.index]
        shape = tuple(holders[0].index[key]["shape"])
        outlines = [shard.outlines[key] for shard in holders]
        if sum(outline.numel() for outline in outlines) != prod(shape):
            raise ValueError(f"{key} has {sum(o.numel() for o in outlines)} of its {prod(shape)} values")
        part, _, name = key.partition("/")
        chunks = tuple(shard.chunk(key) for shard in holders)
        parts.setdefault(part, {})[name] = SavedTensor(shape, outlines[0].dtype, chunks)
    return parts


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a module, which may be sharded, without frozen parameters; memory is shared.

    Entries that are not tensors are refused, since saving them needs pickle.
    """
    tensors: dict[str, Any] = get_model_state_dict(module, options=TRAINED)
    odd = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    assert not odd, f"state_dict entries {odd} are not tensors"
    return tensors


def optimizer_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's moments by parameter: for AdamW `exp_avg.<name>`, `exp_avg_sq.<name>`, `step.<name>`."""
    trained = trained_parameters(module, optimizer)
    return {
        f"{moment}.{name}": value
        for name, parameter in trained.items()
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(module: nn.Module, optimizer: Optimizer, state: SavedState) -> None:
    """Load the moments of `optimizer_tensors` into an optimizer.

    Raises:
        ValueError: a moment belongs to no trained parameter.
    """
    trained = trained_parameters(module, optimizer)
    places = {id(p): i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    moments: dict[int, dict[str, Tensor]] = {}
    for key, saved in state.parts.get("optimizer", {}).items():
        moment, _, name = key.partition(".")
        parameter = trained.get(name)
        if parameter is None or saved.shape not in ((), tuple(parameter.shape)):
            raise ValueError(
                f"{state.path}: the optimizer state has {key} {saved.shape}, which fits no trained parameter; train "
                "the same parameters or use a new output folder"
            )
        whole = saved.shape == () and parameter.ndim > 0  # a counter
        value = saved.read() if whole else saved.copy_to(torch.zeros_like(parameter, dtype=saved.dtype))
        moments.setdefault(places[id(parameter)], {})[moment] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def mark_finished(folder: Path, config: Any, results: Sequence[Path]) -> None:
    """Mark a run as finished, so that repeating its command trains nothing.

    Args:
        folder: folder of the run.
        config: configuration of the run, a dataclass.
        results: files, or folders with files, within that of the run.

    Raises:
        ValueError: the file cannot be written.
    """
    files = [path for result in results for path in (result, *sorted(result.rglob("*"))) if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    write_text(folder / FINISHED_FILE, json.dumps({"config": _decisive(config), "files": sizes}, indent=1) + "\n")


def is_finished(folder: Path, config: Any) -> bool:
    """Tell whether a run of this configuration has finished and its result files are unchanged in size.

    A mark of another configuration is deleted, because the run is about to replace those results.
    """
    mark = folder / FINISHED_FILE
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
        same = found["config"] == _decisive(config)
        if same and all((folder / name).stat().st_size == size for name, size in found["files"].items()):
            return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    with refusals(mark):
        mark.unlink(missing_ok=True)
    return False


def _decisive(config: Any) -> Any:
    """Return the settings that determine the weights, as JSON; output, speed and logging are left out."""
    idle = {"output", "device", "threads", *FREE_FIELDS}

    def without(values: Any) -> Any:
        if isinstance(values, dict):
            return {name: without(value) for name, value in values.items() if name not in idle}
        return [without(value) for value in values] if isinstance(values, list) else values

    return without(json.loads(json.dumps(dataclasses.asdict(config), default=str)))
