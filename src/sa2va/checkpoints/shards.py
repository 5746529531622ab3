"""Read tensors by name from safetensors shards, and write shards with one tensor in memory at a time.

Flow: model folder -> SafetensorFiles (headers only) -> read(name), memory-mapped; named tensors -> write_shards.
Source: the safetensors format, https://huggingface.co/docs/safetensors; index files as Transformers writes them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sa2va.files.atomic import whole_file, write_text
from sa2va.files.json_file import read_json

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9
MAPPED_BYTES = 2**28  # tensors read through one mapping of the files
MAX_TENSORS = 100_000  # maximum over all files together; the largest published model has 3,000

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


class TensorFiles(Protocol):
    """Named tensors in files."""

    @property
    def outlines(self) -> Mapping[str, Tensor]:
        """Every tensor by name, on the meta device: shape and dtype without data."""
        ...

    def read(self, name: str) -> Tensor:
        """Return one tensor; it may be memory-mapped, so copy it to keep or change it."""
        ...

    def file_of(self, name: str) -> Path:
        """Return the file of a tensor, for error messages."""
        ...


def list_shards(folder: Path) -> list[Path]:
    """Return the weight files of a folder.

    Raises:
        ValueError: there are none, or the index names one that is not there.
    """
    index = folder / INDEX_FILE
    if not index.is_file():
        return [folder / WEIGHTS_FILE]
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index} has no weight_map; restore it from the source")
    paths = []
    for name in sorted({str(name) for name in names.values()}):
        if Path(name).name != name:
            raise ValueError(f"{index}: {name!r} lies outside the model folder; expected a plain file name")
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}, which {INDEX_FILE} names; copy the whole model folder")
        paths.append(folder / name)
    return paths


class SafetensorFiles:
    """Tensors of a folder's safetensors files; only headers are read before the first `read`.

    Pages of a mapped file stay resident as long as the mapping, so the files are mapped anew every MAPPED_BYTES. A file
    that has changed by then is refused.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths: dict[str, Path] = {}
        self._mapped: dict[Path, Any] = {}
        self._versions: dict[Path, tuple[int, int]] = {}  # size and time of change
        self._num_read = 0  # bytes, since the files were mapped
        self.outlines: dict[str, Tensor] = {}
        for path in paths:
            file = self._map(path)
            names = file.keys()
            if len(self.outlines) + len(names) > MAX_TENSORS:
                raise ValueError(f"{path} holds more than {MAX_TENSORS} tensors; fetch it again")
            for name in names:
                if name in self._paths:
                    raise ValueError(f"{path}: tensor {name} is also in {self._paths[name].name}; wrong files")
                self._paths[name] = path
                header = file.get_slice(name)
                if header.get_dtype() not in DTYPES:
                    raise ValueError(f"{path}: {name} has type {header.get_dtype()}; expected {', '.join(DTYPES)}")
                dtype = DTYPES[header.get_dtype()]
                self.outlines[name] = torch.empty(header.get_shape(), dtype=dtype, device="meta")

    def _map(self, path: Path) -> Any:
        try:
            status = path.stat()
            file = self._mapped[path] = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is damaged or cut short ({error}); fetch it again") from error
        version = status.st_size, status.st_mtime_ns
        if self._versions.setdefault(path, version) != version:
            raise ValueError(f"{path} was changed while it was read; load it again")
        return file

    def read(self, name: str) -> Tensor:
        path = self._paths[name]
        if self._num_read > MAPPED_BYTES:
            self._mapped, self._num_read = {}, 0
        self._num_read += self.outlines[name].nbytes
        try:
            return (self._mapped.get(path) or self._map(path)).get_tensor(name)
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{path}: {name} cannot be read ({error}); fetch the file again") from error

    def file_of(self, name: str) -> Path:
        return self._paths[name]


def plan_shards(outlines: Mapping[str, Tensor], limit: int = SHARD_BYTES) -> dict[str, list[str]]:
    """Assign tensors to files, in order, each file of at most `limit` bytes."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, outline in outlines.items():
        if groups[-1] and size + outline.nbytes > limit:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += outline.nbytes
    if len(groups) == 1:
        return {WEIGHTS_FILE: groups[0]}
    return {f"model-{n:05}-of-{len(groups):05}.safetensors": names for n, names in enumerate(groups, 1)}


def write_shards(
    folder: Path, outlines: Mapping[str, Tensor], tensors: Iterable[tuple[str, Tensor]], limit: int = SHARD_BYTES
) -> None:
    """Write shards from an iterator of tensors, with one tensor in memory at a time.

    Args:
        folder: exists and holds no weights.
        outlines: shape and dtype of each tensor; wide types before narrow ones, so that every tensor of a
            file is aligned to its own width.
        tensors: the same names in the same order.
        limit: bytes, largest size of a file.
    """
    files = plan_shards(outlines, limit)
    coming = iter(tensors)
    for file_name, names in files.items():
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in names:
            start, end = end, end + outlines[name].nbytes
            kind = DTYPE_NAMES[outlines[name].dtype]
            header[name] = {"dtype": kind, "shape": list(outlines[name].shape), "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with whole_file(folder / file_name) as part, part.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                given, tensor = next(coming)
                assert (given, tensor.shape, tensor.dtype) == (name, outlines[name].shape, outlines[name].dtype)
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    if len(files) > 1:
        total = sum(outline.nbytes for outline in outlines.values())
        places = {name: file_name for file_name, names in files.items() for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        write_text(folder / INDEX_FILE, json.dumps(index, indent=2, sort_keys=True) + "\n")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write one safetensors file, complete or not at all.

    Args:
        path: of the file.
        tensors: on the CPU, none sharing memory with another.
        metadata: goes into the header.

    Raises:
        ValueError: the disk refuses the file.
    """
    with whole_file(path) as part:
        part.touch()
        mode = part.stat().st_mode
        save_file({name: value.contiguous() for name, value in tensors.items()}, part, dict(metadata or {}) or None)
        part.chmod(mode)  # safetensors makes files that nobody else may read
