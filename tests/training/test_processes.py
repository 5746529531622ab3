"""Check that two processes train as one, also if only one runs a part, and after one was killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_model import build_model
from support.small_stage import SmallStage
from support.toy_stage import ToyStage, run_toy, toy_config

SUPPORT = Path(__file__).parents[1] / "support"


def read_losses(folder: Path) -> list[tuple[int, dict[str, float]]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in lines:
        line["counts"].pop("padding", None)  # of two batches it is less than of one
    return [(line["step"], line["losses"] | {"grad_norm": line["grad_norm"]} | line["counts"]) for line in lines]


def launch(program: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Train the stage of a script in two processes under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [*command, str(SUPPORT / program), str(folder), *words],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process; every third step has a mark in a single row."""
    folder = tmp_path_factory.mktemp("alone")
    run_toy(ToyStage(toy_config(), dropout=0.0, mark_every=3), folder)
    return folder


def compare(folder: Path, alone: Path) -> None:
    found, wanted = read_losses(folder), read_losses(alone)
    assert found and [step for step, _ in found] == [step for step, _ in wanted]
    for (_, losses), (_, expected) in zip(found, wanted, strict=True):
        assert losses == pytest.approx(expected, rel=1e-4)


def test_a_killed_process_ends_the_run_and_a_restart_gives_the_curve_of_one_process(tmp_path, alone):
    words = ("dropout=0", "mark_every=3")
    killed = launch("toy_stage.py", tmp_path, *words, "die_at=8")
    assert killed.returncode != 0 and "-9" in killed.stderr
    assert [step for step, _ in read_losses(tmp_path)] == list(range(1, 9))
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["state-00000005"]
    restarted = launch("toy_stage.py", tmp_path, *words)
    assert restarted.returncode == 0, restarted.stderr
    compare(tmp_path, alone)
    assert [step for step, losses in read_losses(tmp_path) if "mark" in losses] == [3, 6, 9, 12]
    assert restarted.stderr.count("toy: 5 of 12 steps done") == 1  # only one process prints


def test_a_sa2va_of_which_one_process_alone_has_masks_gives_the_curve_of_one_process(tmp_path):
    """Each process gets one of two samples: one has a mask, the other only a picture or text."""
    run_toy(SmallStage(*build_model(seed=1)), tmp_path / "alone")
    together = launch("small_stage.py", tmp_path / "together")
    assert together.returncode == 0, together.stderr
    compare(tmp_path / "together", tmp_path / "alone")
    assert all({"lm", "bce", "dice"} <= set(losses) for _, losses in read_losses(tmp_path / "together"))


def test_without_accelerate_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match=r"training needs an extra; run: pip install 'sa2va\[train\]'"):
        run_toy(ToyStage(toy_config()), tmp_path)


def test_gradients_are_accumulated(tmp_path, alone):
    """Two accumulated batches of equal size give the mean of one batch twice as large."""
    run_toy(ToyStage(toy_config(accumulate=2), dropout=0.0), tmp_path / "parts")
    run_toy(ToyStage(toy_config(), dropout=0.0), tmp_path / "whole")
    for (_, one), (_, other) in zip(read_losses(tmp_path / "parts"), read_losses(tmp_path / "whole"), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
