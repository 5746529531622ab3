"""Check that several processes train as one: DDP and FSDP2, after a kill, and with another number of processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import several_processes
from support.several_processes import (
    KILLED,
    SMALL_STOP_AT,
    STOP_AT,
    WHOLE_RUN,
    build_lora,
    build_rewards,
    build_run,
    build_small,
    build_toy,
    stopping,
    train,
)
from support.toy_stage import ToyStage, run_toy, toy_config

from sa2va.checkpoints.folder import load_checkpoint
from sa2va.training import processes
from sa2va.training.processes import start_process
from sa2va.training.run import train_run
from sa2va.training.state import read_state

TOGETHER = [
    "toy-ddp",
    "toy-fsdp",
    "toy-accumulate-ddp",
    "toy-accumulate-fsdp",
    "small-ddp",
    "small-fsdp",
    "rewards-ddp",
    "lora-fsdp",
]
STOPPED = ["stopped-toy-fsdp", "stopped-small-fsdp"]


def launch(folder: Path, names: list[str], num_processes: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Train RUNS in several processes under torchrun."""
    program = several_processes.__file__
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # else restarted processes may find addresses of dead ones
    return subprocess.run(
        [*command, *options, program, str(folder), *names],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def read_losses(folder: Path) -> list[tuple[int, dict[str, float]]]:
    lines = [line for line in read_lines(folder) if "losses" in line]
    return [(line["step"], line["losses"] | {"grad_norm": line["grad_norm"]}) for line in lines]


def compare(folder: Path, alone: Path) -> None:
    """Compare the losses of every step, the figures of the validation and the final weights."""
    found, wanted = read_losses(folder), read_losses(alone)
    assert found and [step for step, _ in found] == [step for step, _ in wanted]
    for (_, losses), (_, expected) in zip(found, wanted, strict=True):
        assert losses == pytest.approx(expected, rel=1e-4)
    figures = [[line["validation"] for line in read_lines(each) if "validation" in line] for each in (folder, alone)]
    assert figures[0] == [pytest.approx(each, rel=1e-4) for each in figures[1]]
    states = [read_state(max(each.glob("*/final"))).parts["weights"] for each in (folder, alone)]
    assert set(states[0]) == set(states[1])
    for name, saved in states[1].items():
        torch.testing.assert_close(states[0][name].read(), saved.read(), rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train each kind of stage in one process."""
    folder = tmp_path_factory.mktemp("alone")
    for name, build in (("toy", build_toy), ("small", build_small), ("lora", build_lora), ("rewards", build_rewards)):
        train(build(), folder / name)
    train(build_toy(validate_every=5), folder / "toy-fsdp")
    return folder


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Train in two processes; `kill -9` of one restarts both, twice. Return the folder and what they wrote."""
    folder = tmp_path_factory.mktemp("together")
    first, second = KILLED
    done = launch(folder, [first, *TOGETHER, *STOPPED, second, WHOLE_RUN], 2, "--max-restarts=2")
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


@pytest.fixture(scope="module")
def together(launched: tuple[Path, str]) -> Path:
    return launched[0]


def reference(name: str, alone: Path) -> Path:
    return alone / name if (alone / name).exists() else alone / name.partition("-")[0]


@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_train_as_one(name: str, together: Path, alone: Path) -> None:
    """In each step only one of the two processes may have masks, pictures or marks."""
    compare(together / name, reference(name, alone))


@pytest.mark.parametrize("name", STOPPED)
def test_a_sharded_state_is_resumed_by_one_process(name: str, together: Path, alone: Path, tmp_path: Path) -> None:
    kind = name.split("-")[1]
    folder = shutil.copytree(together / name, tmp_path / "run")
    (state,) = folder.glob("*/state-*")
    assert {path.name for path in state.iterdir()} == {"state.json", "shard-00000", "shard-00001"}
    sizes = [(state / f"shard-0000{rank}" / "model.safetensors").stat().st_size for rank in (0, 1)]
    assert kind == "toy" or min(sizes) > 0.6 * max(sizes)  # each process writes about half
    train(build_toy() if kind == "toy" else build_small(), folder)
    compare(folder, alone / kind)


@pytest.mark.parametrize("name", KILLED)
def test_killed_processes_are_restarted_and_give_the_curve_of_one(
    name: str, launched: tuple[Path, str], alone: Path
) -> None:
    folder, told = launched
    compare(folder / name, reference(name, alone))
    state = {"toy-ddp-killed": "toy/state-00000005", "small-fsdp-killed": "small/state-00000002"}[name]
    assert f"another process of the run has ended; the same command resumes from {folder / name / state}" in told


def test_a_sharded_run_of_two_stages_saves_the_model_of_one_process(together: Path, tmp_path: Path) -> None:
    train_run(build_run(), tmp_path, quiet=True)
    compare(together / WHOLE_RUN, tmp_path)
    models = [
        load_checkpoint(each / "model", torch.device("cpu"), torch.float32)[0]
        for each in (together / WHOLE_RUN, tmp_path)
    ]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=0.01, atol=1e-3)  # saved in bfloat16


def stop_in_one_process(name: str, folder: Path) -> None:
    stage, step = (build_toy(validate_every=5), STOP_AT) if name.startswith("toy") else (build_small(), SMALL_STOP_AT)
    with pytest.raises(ValueError, match="stopped at"):
        train(stopping(stage, step), folder)


@pytest.mark.slow
def test_four_processes_resume_states_of_one_and_of_two(tmp_path: Path, together: Path, alone: Path) -> None:
    """The state of four processes is resumed by one: 1 -> 4 and 2 -> 4 -> 1."""
    stop_in_one_process("toy-fsdp", tmp_path / "toy-fsdp")
    shutil.copytree(together / "stopped-toy-fsdp", tmp_path / "stopped-late-toy-fsdp")
    done = launch(tmp_path, ["toy-fsdp", "stopped-late-toy-fsdp", "toy-ddp"], 4)
    assert done.returncode == 0, done.stderr
    compare(tmp_path / "toy-fsdp", alone / "toy-fsdp")
    compare(tmp_path / "toy-ddp", alone / "toy")
    (state,) = tmp_path.glob("stopped-late-toy-fsdp/toy/state-*")
    assert state.name == "state-00000010" and len(list(state.glob("shard-*"))) == 4
    train(build_toy(), tmp_path / "stopped-late-toy-fsdp")
    compare(tmp_path / "stopped-late-toy-fsdp", alone / "toy")


def test_a_stage_with_fewer_samples_than_processes_is_refused_before_it_starts(tmp_path: Path) -> None:
    stage = ToyStage(toy_config(batch_size=2, accumulate=3))
    with pytest.raises(ValueError, match="step 0 has 2 items for 1 processes of 3 batches each; use fewer processes"):
        run_toy(stage, tmp_path)
    assert not list(tmp_path.glob("toy/*"))


@pytest.mark.parametrize(
    ("environment", "device", "parallel", "told"),
    [
        ({}, "cpu", "fsdp", "parallel=fsdp shards the model over processes; start them with: torchrun --nproc"),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, "cuda", "ddp", "4 processes for 2 GPUs on this machine"),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, "cuda:1", "fsdp", "device=cuda:1 with 4 processes: each takes"),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, "cuda", "fsdp", "this torch has no NCCL"),
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, "mps", "ddp", "2 processes cannot share the GPU of a Mac"),
    ],
)
def test_a_launch_that_cannot_work_is_refused(
    environment: dict[str, str], device: str, parallel: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "choose_device", torch.device)  # this machine has no GPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(ValueError) as caught:
        start_process(device, parallel=parallel)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_process_takes_the_gpu_of_its_rank_within_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process of the second machine takes the second GPU."""
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    taken: list[Any] = []
    monkeypatch.setattr(processes, "choose_device", torch.device)  # this machine has no GPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "init_process_group", taken.append)
    monkeypatch.setattr("accelerate.PartialState", lambda cpu: SimpleNamespace(device=torch.device("cuda", 1)))
    assert start_process("cuda") == torch.device("cuda", 1)
    assert taken == [1, "nccl"]


def test_without_accelerate_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match=r"training needs an extra; run: pip install 'sa2va\[train\]'"):
        run_toy(ToyStage(toy_config()), tmp_path)


def test_accumulated_batches_weigh_by_their_rows(tmp_path: Path) -> None:
    """A mark in one of two accumulated batches weighs as in one batch of all rows."""
    train(build_toy(accumulate=2), tmp_path / "parts")
    train(build_toy(accumulate=3), tmp_path / "odd")  # of 6, 5 and 5 rows
    train(build_toy(), tmp_path / "whole")
    compare(tmp_path / "parts", tmp_path / "whole")
    compare(tmp_path / "odd", tmp_path / "whole")


def test_accumulated_samples_of_a_sa2va_weigh_by_their_rows(tmp_path: Path) -> None:
    """One of two accumulated samples has a mask, and their answers differ in length."""
    train(build_small(accumulate=2), tmp_path / "parts")
    train(build_small(), tmp_path / "whole")
    compare(tmp_path / "parts", tmp_path / "whole")
