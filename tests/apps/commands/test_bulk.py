"""Test `sa2va bulk`: options, remarks, shards and exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.bulk_files import write_expressions, write_media
from support.own_process import contents

from sa2va.apps import cli
from sa2va.apps.options import ModelChoice
from sa2va.checkpoints import device
from sa2va.data import prompts

pytest.importorskip("pyarrow")


@pytest.fixture
def command(tmp_path: Path, toy: Any) -> list[str]:
    """Twelve items, the output folder left out."""
    texts = write_expressions(tmp_path / "texts.txt")
    return ["bulk", str(write_media(tmp_path / "media")), "-e", str(texts), "--block", "3", "--batch", "2"]


def test_a_run_and_again(command: list[str], toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main([*command, "-o", str(out)]) == 0
    text, remarks = capsys.readouterr()
    assert text == f"12 of 12 items in {out}, 2 of them failed\n"
    assert "answered 12 items in" in remarks and f"the reasons: {out}/failures.jsonl" in remarks
    assert len(toy.asked) == 10 and toy.asked[0] == (prompts.SEGMENT[0].format("the dark box"), None)
    names = sorted(path.name for path in out.iterdir())
    assert names == [".sa2va.json", "annotations.json", "failures.jsonl", "items.parquet", "parts", "tracks.json"]
    before = contents(out)
    assert cli.main([*command, "-o", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "folder": str(out), "items": 12, "done": 12, "failed": 2, "answered_now": 0, "seconds": found["seconds"],
        "items_per_second": None, "joined": True,
    }  # fmt: skip
    assert len(toy.asked) == 10 and contents(out) == before


def test_shards_write_one_folder(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two by hand, one by the environment of torchrun; the last one joins the parts."""
    assert cli.main([*command, "-o", str(tmp_path / "one"), "-q"]) == 0
    out = tmp_path / "three"
    for shard, done in (("3/3", 3), ("1/3", 9)):
        assert cli.main([*command, "-o", str(out), "--shard", shard]) == 0
        text, remarks = capsys.readouterr()
        assert f"{done} of 12 items" in text and "parts are missing" in remarks
        assert not (out / "annotations.json").exists()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert cli.main([*command, "-o", str(out)]) == 0
    assert contents(out) == contents(tmp_path / "one")


def test_parts_alone(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main([*command, "-o", str(out), "--no-coco", "-q"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["items.parquet", "parts"]
    assert cli.main([*command, "-o", str(out), "-q"]) == 0 and (out / "annotations.json").exists()


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "choose_device", lambda name: torch.device("cuda"))
    assert ModelChoice().of_process().device == "auto"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert ModelChoice().of_process().device == "cuda:3"
    assert ModelChoice(device="cpu").of_process().device == "cpu"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shard", "4/3"], "expected I/N with I from 1 to N"),
        (["--shard", "one"], "expected I/N"),
        (["--workers", "2"], "--workers and --gpus-per-worker belong to Ray; add --ray local"),
        (["--ray", "local", "--shard", "1/2"], "--ray and --shard exclude each other"),
        (["--batch", "0"], "--batch"),
        (["--model", "no/such/model", "--offline"], "no/such/model"),
    ],
)
def test_mistakes_cost_one_line(
    command: list[str], more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "-o", str(tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_other_options_need_another_folder(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", str(tmp_path / "out"), "-q"]
    assert cli.main([*command, *out]) == 0
    for more, reason in ((["--threshold", "1"], "threshold 0.0, not 1.0"), (["--dtype", "bfloat16"], "with model")):
        capsys.readouterr()
        assert cli.main([*command, *out, *more]) == 2
        assert reason in capsys.readouterr().err
