"""Read tensors from pickled PyTorch files, only where a user allows it (--unsafe-pickle-ok).

Flow: .bin, .pt or .pth -> PickledFiles -> conversion.py or assembly.py; nothing else in the project opens such a file.
Source: weights_only=True keeps PyTorch from calling functions named in the file; older versions have a flaw there
    (CVE-2025-32434).
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sa2va.checkpoints.shards import DTYPE_NAMES
from sa2va.files.json_file import read_json

MAIN_FILE, INDEX_FILE = "pytorch_model.bin", "pytorch_model.bin.index.json"
SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")  # files without weights
WRAPPERS = ("model", "state_dict")  # keys under which a file may keep its tensors


def list_pickles(folder: Path) -> list[Path]:
    """Return the pickled weight files of a folder.

    Raises:
        ValueError: the index names a file that is not there.
    """
    if (folder / INDEX_FILE).is_file():
        names = sorted(set((read_json(folder / INDEX_FILE).get("weight_map") or {}).values()))
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise ValueError(f"{folder} has no {name}, which {INDEX_FILE} names; copy the whole model folder")
        return [folder / name for name in names]
    if (folder / MAIN_FILE).is_file():
        return [folder / MAIN_FILE]
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith(NO_WEIGHTS))


class PickledFiles:
    """Tensors of PyTorch files, memory-mapped."""

    def __init__(self, paths: list[Path]) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._paths: dict[str, Path] = {}
        for path in paths:
            for name, tensor in _find_tensors(_load(path), path).items():
                if name in self._paths:
                    raise ValueError(f"{path}: tensor {name} is also in {self._paths[name].name}; wrong files")
                if tensor.dtype not in DTYPE_NAMES:
                    raise ValueError(f"{path}: {name} has type {tensor.dtype}, which no model has")
                self._tensors[name], self._paths[name] = tensor.detach(), path
        self.outlines = {name: tensor.to("meta") for name, tensor in self._tensors.items()}

    def read(self, name: str) -> Tensor:
        return self._tensors[name]

    def file_of(self, name: str) -> Path:
        return self._paths[name]


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a pickle can fail in any way
        raise ValueError(
            f"{path} holds more than tensors, or is damaged or of a form older than PyTorch 1.6; it is not opened"
        ) from error


def _find_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a file; unwrap them first if they lie under a key of WRAPPERS."""
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} is no file of named tensors; expected the weights of a model")
    return content
