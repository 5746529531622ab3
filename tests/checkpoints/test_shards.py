"""Check that tensors are read exactly as written, in one file or many, and that damage is reported."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from sa2va.checkpoints import shards
from sa2va.checkpoints.shards import DTYPE_NAMES, SafetensorFiles, list_shards, plan_shards, save_tensors, write_shards

WIDE_FIRST = sorted(DTYPE_NAMES, key=lambda dtype: -dtype.itemsize)


def outline(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to("meta") for name, tensor in tensors.items()}


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=8),
    limit=st.integers(1, 400),
    seed=st.integers(0, 9),
)
def test_what_is_written_is_read(
    shapes: list[list[int]], limit: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    torch.manual_seed(seed)
    kinds = [WIDE_FIRST[n % len(WIDE_FIRST)] for n in range(len(shapes))]
    tensors = {f"t.{n}": (torch.randn(s) * 9).to(k) for n, (s, k) in enumerate(zip(shapes, kinds, strict=True))}
    write_shards(folder, outline(tensors), iter(tensors.items()), limit)
    paths = list_shards(folder)
    files = SafetensorFiles(paths)
    together = {name: value for path in paths for name, value in load_file(path).items()}  # the library's own reader
    assert files.outlines.keys() == together.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert files.outlines[name].dtype == files.read(name).dtype == together[name].dtype == tensor.dtype
        assert torch.equal(files.read(name), tensor) and torch.equal(together[name], tensor)
        assert files.file_of(name) in paths
    for path in paths:
        names = [name for name in tensors if files.file_of(name) == path]
        assert len(names) == 1 or sum(tensors[name].nbytes for name in names) <= limit


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs Linux")
def test_pages_that_were_read_leave_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resident() -> int:
        maps = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
        found = (re.search(r"(?m)^Rss:\s+(\d+) kB", one) for one in maps if str(tmp_path) in one.split("\n")[0])
        return sum(1024 * int(size[1]) for size in found if size)

    side, number = 512, 8  # 1 MiB each
    tensors = {str(n): torch.full((side, side), float(n)) for n in range(number)}
    write_shards(tmp_path, outline(tensors), iter(tensors.items()), 3 * 2**20)
    monkeypatch.setattr(shards, "MAPPED_BYTES", 2 * 2**20)
    files, most = SafetensorFiles(list_shards(tmp_path)), 0
    for name, tensor in tensors.items():
        assert torch.equal(files.read(name), tensor)
        most = max(most, resident())
    assert 2**20 <= most <= 4 * 2**20  # 3 tensors are read before the files are mapped anew


@pytest.mark.parametrize("shape", [(64, 64), (32, 64)])
def test_a_file_that_changes_while_it_is_read_is_refused(
    shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, written = tmp_path / "model.safetensors", tmp_path / "new"
    save_file({name: torch.zeros(64, 64) for name in "ab"}, path)
    monkeypatch.setattr(shards, "MAPPED_BYTES", 1)
    files = SafetensorFiles([path])
    files.read("a")
    save_file({name: torch.ones(shape) for name in "ab"}, written)
    os.utime(written, ns=(0, path.stat().st_mtime_ns + 1))
    written.replace(path)
    with pytest.raises(ValueError, match=r"model\.safetensors was changed while it was read; load it again") as error:
        files.read("b")
    assert "\n" not in str(error.value)


def test_files_are_numbered_and_listed(tmp_path: Path) -> None:
    tensors = {name: torch.zeros(10) for name in "abc"}
    assert plan_shards(outline(tensors), 80) == {
        "model-00001-of-00002.safetensors": ["a", "b"],
        "model-00002-of-00002.safetensors": ["c"],
    }
    assert list(plan_shards(outline(tensors), 120)) == ["model.safetensors"]
    write_shards(tmp_path, outline(tensors), iter(tensors.items()), 80)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 120
    assert index["weight_map"]["c"] == "model-00002-of-00002.safetensors"


def cut(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def rewrite_index(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "model-00002-of-00002.safetensors is damaged or cut short"),
        (lambda f: (f / "model-00001-of-00002.safetensors").write_bytes(b"\x10"), "00001-of-00002.*damaged"),
        (lambda f: (f / "model-00001-of-00002.safetensors").unlink(), "has no model-00001-of-00002.safetensors, which"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{"), "index.json is not valid JSON"),
        (lambda f: (f / "model.safetensors.index.json").write_bytes(b"\xff\xfe"), "is not a text file"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "expected a JSON object"),
        (lambda f: rewrite_index(f, lambda v: v.pop("weight_map")), "has no weight_map"),
        (
            lambda f: rewrite_index(f, lambda v: v["weight_map"].update(a="../x")),
            "'../x' lies outside",
        ),
        (
            lambda f: save_file({"a": torch.zeros(10)}, f / "model-00002-of-00002.safetensors"),
            "tensor a is also in model-00001",
        ),
    ],
)
def test_damage_is_named(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    tensors = {name: torch.zeros(10) for name in "abc"}
    write_shards(tmp_path, outline(tensors), iter(tensors.items()), 80)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        SafetensorFiles(list_shards(tmp_path))
    assert "\n" not in str(error.value)


def test_a_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(3)})
    (tmp_path / "b.txt").write_text("b")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b.txt").stat().st_mode
