"""Save and restore the training state of a stage atomically: safetensors and one JSON file.

Flow: trainer.py -> save_state every few minutes -> after an interruption latest_state + read_state -> trainer.py.
A state is a folder `state-<step>` with `<part>.safetensors` files and `state.json`. It is written under a temporary
name, flushed to the disk and renamed; only then the previous state is deleted.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from sa2va.checkpoints.shards import save_tensors
from sa2va.files.atomic import refusals, whole_folder, write_text
from sa2va.training.optim import trained_parameters
from sa2va.training.stage import FREE_FIELDS

FORMAT = "sa2va-training-state-2"
FINAL = "final"
ALIASES = "aliases"
FINISHED_FILE = "finished.json"
# Frozen weights are not saved, since a run rebuilds them. GATHERED puts the full state on the CPU of the main process.
TRAINED = StateDictOptions(ignore_frozen_params=True)
GATHERED = replace(TRAINED, full_state_dict=True, cpu_offload=True)
SCATTERED = replace(TRAINED, full_state_dict=True, strict=False)
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
KEYS = {"step", "files", ALIASES, "record"}


@dataclass(frozen=True)
class State:
    """Saved training state of a stage."""

    step: int  # number of finished steps
    record: dict[str, Any]  # config and counters, JSON values
    parts: dict[str, dict[str, Tensor]]  # file stem -> name -> tensor


def save_state(folder: Path, state: State, *, name: str | None = None) -> Path:
    """Write a state into `folder` and delete previous states.

    Args:
        folder: folder of the stage; created if missing.
        state: state to write; tensors may be on any device, tied ones are written once.
        name: name of the state's folder; by default `state-<step>`.

    Returns:
        The folder written.

    Raises:
        ValueError: the disk is full or read-only; partial files are removed.
    """
    target = folder / (name or f"state-{state.step:08d}")
    with whole_folder(target) as draft:
        _write(draft, state)
        if target.exists():
            shutil.rmtree(target)
    with refusals(folder):
        for old in folder.glob("state-*"):
            if old != target:
                shutil.rmtree(old)
    return target


def latest_state(folder: Path) -> Path | None:
    """Return the newest state in a stage's folder: the final one, else that of the highest step, else None."""
    if (folder / FINAL).is_dir():
        return folder / FINAL
    states = sorted(path for path in folder.glob("state-*") if path.is_dir())
    return states[-1] if states else None


def read_state(path: Path) -> State:
    """Read one state folder.

    Raises:
        ValueError: a file is truncated, missing or in another format; the message names it.
    """
    fix = f"delete {path} to go back to what was saved before it, or start over in a new output folder"
    try:
        record = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}/state.json is missing or damaged ({type(error).__name__}); {fix}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT or not KEYS <= set(record):
        raise ValueError(f"{path}/state.json is not a training state of this version ({FORMAT}); {fix}")
    parts: dict[str, dict[str, Tensor]] = {}
    for part, size in record["files"].items():
        file = path / f"{part}.safetensors"
        found = file.stat().st_size if file.is_file() else 0
        if found != size:
            raise ValueError(f"{file} has {found} bytes, expected {size}: the state is truncated; {fix}")
        try:
            parts[part] = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{file} is damaged ({error}); {fix}") from error
        for alias, name in record[ALIASES].get(part, {}).items():
            parts[part][alias] = parts[part][name]
    return State(step=record["step"], record=record["record"], parts=parts)


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a module, which may be sharded or wrapped, without frozen parameters.

    Every process of a run must call it. Entries that are not tensors are refused, since saving them needs pickle.
    """
    tensors: dict[str, Any] = get_model_state_dict(module, options=TRAINED)
    odd = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    assert not odd, f"state_dict entries {odd} are not tensors"
    return tensors


def load_module_tensors(module: nn.Module, tensors: dict[str, Tensor], *, source: Path) -> None:
    """Load the tensors of `module_tensors` into a module; check every name and shape.

    Raises:
        ValueError: a name or shape differs; the message gives the first one.
    """
    own: dict[str, Any] = get_model_state_dict(module, options=TRAINED)
    shapes = {name: value.shape for name, value in own.items()}
    for name in sorted(set(shapes) ^ set(tensors)):
        where = "the model" if name in shapes else "the state"
        raise ValueError(f"{source}: only {where} has {name}; it was saved by another model: use a new output folder")
    for name, shape in shapes.items():
        if shape != tensors[name].shape:
            sizes = f"{tuple(tensors[name].shape)} saved, {tuple(shape)} in the model"
            raise ValueError(f"{source}: {name} is {sizes}; it was saved by another model: use a new output folder")
    set_model_state_dict(module, dict(tensors), options=SCATTERED)


def optimizer_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return AdamW's moments by parameter name: `exp_avg.<name>`, `exp_avg_sq.<name>`, `step.<name>`.

    Every process of a run must call it; only the main process gets the tensors.
    """
    if not optimizer.state:
        return {}  # get_optimizer_state_dict would initialize the state
    state: Any = get_optimizer_state_dict(module, optimizer, options=GATHERED).get("state", {})
    return {f"{moment}.{name}": value for name, moments in state.items() for moment, value in moments.items()}


def load_optimizer_tensors(module: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the moments of `optimizer_tensors` into an optimizer.

    Raises:
        ValueError: a moment belongs to no trained parameter.
    """
    trained = trained_parameters(module, optimizer)
    state: dict[str, Any] = {}
    for key, value in tensors.items():
        moment, _, name = key.partition(".")
        if name not in trained or moment not in MOMENTS or (moment != "step" and value.shape != trained[name].shape):
            raise ValueError(f"the optimizer state has {key} {tuple(value.shape)}, which fits no trained parameter")
        state.setdefault(name, {})[moment] = value
    if not state:
        return
    groups: Any = get_optimizer_state_dict(module, optimizer, options=TRAINED)["param_groups"]
    set_optimizer_state_dict(module, optimizer, {"state": state, "param_groups": groups}, options=SCATTERED)
    for name, parameter in trained.items():
        if name not in state:  # torch initializes the state of parameters that were never updated
            optimizer.state.pop(parameter, None)


def _write(draft: Path, state: State) -> None:
    sizes: dict[str, int] = {}
    aliases: dict[str, dict[str, str]] = {}
    for part, tensors in state.parts.items():
        if not tensors:
            continue
        unique, aliases[part] = _without_copies(tensors)
        file = draft / f"{part}.safetensors"
        save_tensors(file, unique)
        sizes[part] = file.stat().st_size
    document = {"format": FORMAT, "step": state.step, "files": sizes, ALIASES: aliases, "record": state.record}
    write_text(draft / "state.json", json.dumps(document, indent=1))


def _without_copies(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the distinct tensors on the CPU, and alias -> name for tied ones, which safetensors refuses."""
    unique: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and key in first:
            aliases[name] = first[key]
            continue
        first[key] = name
        storage = tensor.untyped_storage().data_ptr()
        plain = tensor.detach().to("cpu").contiguous()
        # views of one storage (an expanded buffer, a slice) are copied
        unique[name] = plain.clone() if storage in storages else plain
        storages.add(storage)
    return unique, aliases


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
