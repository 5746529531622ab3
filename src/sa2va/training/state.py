"""Save and restore a run's state: safetensors and one JSON, complete or not at all.

Flow: trainer.py -> save_state every few minutes -> after an interruption latest_state + read_state -> trainer.py.
A state is a folder `state-<step>` holding `<part>.safetensors` files and `state.json`. It is written under another
name, flushed to the disk and renamed; only then is the one before it deleted.
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

FORMAT = "sa2va-training-state-1"
FINAL = "final"
ALIASES = "aliases"
FINISHED_FILE = "finished.json"
# Frozen weights are not saved: a run builds them anew. A whole state on the CPU is given to the main process alone.
TRAINED = StateDictOptions(ignore_frozen_params=True)
GATHERED = replace(TRAINED, full_state_dict=True, cpu_offload=True)
SCATTERED = replace(TRAINED, full_state_dict=True, strict=False)
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
KEYS = {"step", "files", ALIASES, "record"}


@dataclass(frozen=True)
class State:
    """One saved moment of a stage."""

    step: int  # steps that are done
    record: dict[str, Any]  # config, counters: whatever JSON holds
    parts: dict[str, dict[str, Tensor]]  # file stem -> name -> tensor


def save_state(folder: Path, state: State, *, name: str | None = None) -> Path:
    """Write a state into `folder` and delete the ones before it.

    Args:
        folder: the stage's folder; created when it is not there.
        state: what to write; tensors may be on any device, shared ones are written once.
        name: name of the state's own folder; by default `state-<step>`.

    Returns:
        The folder written.

    Raises:
        ValueError: when the disk refuses (full, read-only); nothing half-written stays.
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
    """Return the newest state in a stage's folder: the final one, else the one of the highest step, else None."""
    if (folder / FINAL).is_dir():
        return folder / FINAL
    states = sorted(path for path in folder.glob("state-*") if path.is_dir())
    return states[-1] if states else None


def read_state(path: Path) -> State:
    """Read one state folder.

    Raises:
        ValueError: one line that names the file when it is truncated, missing or of another kind.
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
    """Return the state dict of a module on the CPU, also of a sharded or wrapped one, without frozen parameters.

    Every process of a run must call it.

    A state dict entry that is no tensor could not be saved without pickle.
    """
    tensors: dict[str, Any] = get_model_state_dict(module, options=TRAINED)
    odd = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    assert not odd, f"state_dict entries {odd} are not tensors"
    return tensors


def load_module_tensors(module: nn.Module, tensors: dict[str, Tensor], *, source: Path) -> None:
    """Put the tensors of `module_tensors` back, every name and shape checked.

    Raises:
        ValueError: one line with the first name that differs.
    """
    own: dict[str, Any] = get_model_state_dict(module, options=TRAINED)
    shapes = {name: value.shape for name, value in own.items()}
    for name in sorted(set(shapes) ^ set(tensors)):
        where = "the model" if name in shapes else "the state"
        raise ValueError(f"{source}: only {where} has {name}; it was saved by another model: use a new output folder")
    for name, shape in shapes.items():
        if shape != tensors[name].shape:
            told = f"{tuple(tensors[name].shape)} saved, {tuple(shape)} in the model"
            raise ValueError(f"{source}: {name} is {told}; it was saved by another model: use a new output folder")
    set_model_state_dict(module, dict(tensors), options=SCATTERED)


def optimizer_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return AdamW's moments by parameter name: `exp_avg.<name>`, `exp_avg_sq.<name>`, `step.<name>`.

    Every process of a run must call it; the main one gets the tensors.
    """
    if not optimizer.state:
        return {}  # asking for it would fill it
    state: Any = get_optimizer_state_dict(module, optimizer, options=GATHERED).get("state", {})
    return {f"{moment}.{name}": value for name, moments in state.items() for moment, value in moments.items()}


def load_optimizer_tensors(module: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the moments of `optimizer_tensors` back.

    Raises:
        ValueError: they belong to other parameters.
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
        if name not in state:  # torch gives what was never updated a first step
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
    """Return the distinct tensors on the CPU, and alias -> name for tied ones (safetensors refuses shared memory)."""
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
        # views of one storage (an expanded buffer, a slice) become tensors of their own
        unique[name] = plain.clone() if storage in storages else plain
        storages.add(storage)
    return unique, aliases


def mark_finished(folder: Path, config: Any, results: Sequence[Path]) -> None:
    """Note that a run has ended, so that the same command again has nothing to do.

    Args:
        folder: of the run.
        config: of the run, a dataclass.
        results: folders of it that hold what was trained.

    Raises:
        ValueError: the disk refuses the file.
    """
    files = [path for result in results for path in sorted(result.rglob("*")) if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    write_text(folder / FINISHED_FILE, json.dumps({"config": _decisive(config), "files": sizes}, indent=1) + "\n")


def is_finished(folder: Path, config: Any) -> bool:
    """Tell whether a run of this configuration has ended and its results are still there, whole.

    A mark of another configuration is taken away, for what it marks is about to change.
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
    """Return as JSON has it what of a configuration decides what is trained: all but where, how fast, and how told."""
    idle = {"output", "device", "threads", *FREE_FIELDS}

    def without(values: Any) -> Any:
        if isinstance(values, dict):
            return {name: without(value) for name, value in values.items() if name not in idle}
        return [without(value) for value in values] if isinstance(values, list) else values

    return without(json.loads(json.dumps(dataclasses.asdict(config), default=str)))
