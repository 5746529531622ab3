"""Check the choice of device and precision, and the errors for unknown names."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from sa2va.apps import cli
from sa2va.checkpoints.device import (
    GIB,
    SMALL_MODEL,
    choose_device,
    choose_dtype,
    list_places,
    multiplies_bfloat16,
    read_ram,
)


@pytest.mark.parametrize("name", ["gpu", "cuda:99:1", ""])
def test_an_unknown_device_is_one_line(name):
    with pytest.raises(ValueError, match="use "):
        choose_device(name)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["mps", "xpu", "cuda", "cuda:7", "meta", "cpu:3", "hpu", "nonsense"])
def test_a_device_that_is_not_there_is_one_line_with_those_that_are(name, tmp_path, monkeypatch, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert cli.main(["segment", str(tmp_path / "x.png"), "the red circle", "--device", name]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"device {name!r} is" in said and said.endswith("use auto, cpu\n")


def test_gpus_are_known_by_their_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert (choose_device("mps"), choose_device("mps:0")) == (torch.device("mps"), torch.device("mps:0"))
    with pytest.raises(ValueError, match="'cuda:2' is not available .*; use auto, cuda:0, cuda:1, mps, cpu"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "device", "has_bfloat16", "expected"),
    [
        ("auto", "cpu", True, torch.bfloat16),
        ("auto", "cpu", False, torch.float32),
        ("auto", "cuda", True, torch.bfloat16),
        ("auto", "cuda", False, torch.float16),
        ("auto", "mps", False, torch.float16),
        ("bfloat16", "cpu", False, torch.bfloat16),
        ("float32", "cuda", True, torch.float32),
        ("float32", "cpu", True, torch.float32),
    ],
)
def test_the_precision_follows_the_device(
    name: str, device: str, has_bfloat16: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An old GPU computes bfloat16 too, but slowly, by emulation: that does not count.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bfloat16 or including_emulation
    )
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bfloat16})
    assert choose_dtype(name, torch.device(device), SMALL_MODEL) == expected
    if name == "auto" and device == "cpu":
        assert choose_dtype(name, torch.device(device), SMALL_MODEL - 1) == torch.float32


@pytest.mark.parametrize(
    ("device", "abilities", "wanted"),
    [
        ("cpu", {"avx512_bf16": True}, True),
        ("cpu", {"avx512_bf16": False, "amx_bf16": True}, True),
        ("cpu", {"avx2": True}, False),
        ("meta", {"amx_bf16": True}, False),
    ],
)
def test_only_a_cpu_with_the_instructions_multiplies_bfloat16(monkeypatch, device, abilities, wanted) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert multiplies_bfloat16(torch.device(device)) is wanted


def test_this_machine_has_memory() -> None:
    total, free = read_ram()
    assert GIB < total and 0 < free <= total
    assert list_places()[-1].device == "cpu" and list_places()[-1].total == total


def test_a_container_has_what_it_is_given(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text(f"{GIB // 4}\n")
    (group / "memory.max").write_text("max\n")
    unlimited = read_ram(tmp_path)
    (group / "memory.max").write_text(f"{GIB}\n")
    assert read_ram(tmp_path) == (GIB, GIB - GIB // 4)
    assert unlimited == (read_ram()[0], read_ram()[0])  # no report of what is free
