"""Check that a folder of `sa2va eval -o` holds one run, which processes share, and that kills change no byte."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support.small_model import build_model

from sa2va.apps import cli
from sa2va.checkpoints.folder import save_checkpoint

ITEMS = 2
TESTS = str(Path(__file__).resolve().parents[2])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small model and an original SAM 2 for it."""
    place = tmp_path_factory.mktemp("models")
    model, processor = build_model()
    save_checkpoint(model, processor.tokenizer, place / "model", torch.float32)
    build_model(seed=5)[0].sam2.native.save_pretrained(place / "sam2")
    return place


def words(folders: Path, out: Path, *more: str, benchmarks: Sequence[str] = ("squares",)) -> list[str]:
    named = [word for name in benchmarks for word in ("-b", name)]
    common = ["--seed", "5", "--items", str(ITEMS), "-o", str(out), "--quiet", "--json"]
    return ["eval", str(folders / "model"), *named, *common, *more]


def kept(out: Path) -> int:
    """Count the answers in a folder."""
    lines = [line for path in out.glob("answers-*.jsonl") for line in path.read_bytes().splitlines()]
    return sum("answers" in json.loads(line)["record"] for line in lines)


def test_another_precision_adapter_or_sam_is_another_run(
    folders: Path, tmp_path: Path, small_benchmarks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    peft = pytest.importorskip("peft", reason="pip install 'sa2va[adapter]'")
    for number in (1, 2):
        model, config = build_model()[0], peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        torch.manual_seed(number)
        peft.get_peft_model(model.mllm.native, config).save_pretrained(tmp_path / f"adapter{number}")
    ways = ([], ["--dtype", "bfloat16"], ["--quantize", "int8"], ["--sam", str(folders / "sam2")])
    ways += tuple(["--adapter", str(tmp_path / f"adapter{number}")] for number in (1, 2))
    runs = []
    for number, way in enumerate(ways):
        assert cli.main(words(folders, tmp_path / str(number), *way)) == 0
        runs.append(json.loads(capsys.readouterr().out)["run"])
    assert [run["dtype"] for run in runs] == ["float32", "bfloat16", *["float32"] * 4]
    assert [run["quantize"] for run in runs] == [None, None, "int8", None, None, None]
    assert [run["sam"] is not None for run in runs] == [False, False, False, True, False, False]
    assert len({run["adapter_hash"] for run in runs}) == 3
    for way in ways[1:]:
        assert cli.main(words(folders, tmp_path / "0", *way)) == 2
        assert "choose another folder" in capsys.readouterr().err
    assert kept(tmp_path / "0") == ITEMS


def test_two_processes_share_a_folder_and_a_third_reports_all(
    folders: Path,
    tmp_path: Path,
    small_benchmarks: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, names = tmp_path / "out", ("squares", "colors")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")]))
    running = [start(words(folders, out, benchmarks=[name])) for name in names]
    said = [json.loads(process.communicate()[0])["benchmarks"] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert kept(out) == ITEMS * len(names)
    assert cli.main(words(folders, out, benchmarks=names)) == 0
    assert kept(out) == ITEMS * len(names)  # nothing was asked again
    whole = json.loads(capsys.readouterr().out)["benchmarks"]
    assert set(whole) == set(names) and all(one[name] == whole[name] for one in said for name in one)
    assert json.loads((out / "report.json").read_text())["benchmarks"] == whole
    (out / "report.json").unlink()
    assert cli.main(["score", str(out), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["benchmarks"] == whole


def start(arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Run the command line in a process of its own."""
    code = "import sys; from support.small_benchmark import register; from sa2va.apps.cli import main; register(); "
    command = [sys.executable, "-c", code + "sys.exit(main())", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_kills_and_shards_change_no_byte(
    folders: Path, tmp_path: Path, small_benchmarks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")]))
    more = ("--items", "12", "--batch", "2")
    assert cli.main(words(folders, tmp_path / "whole", *more)) == 0
    wanted = (tmp_path / "whole" / "report.json").read_bytes()
    out, answered = tmp_path / "killed", []
    while not (out / "report.json").exists():
        process = start(words(folders, out, *more))
        before = kept(out)
        while process.poll() is None and kept(out) < before + 4:
            time.sleep(0.005)
        process.kill()
        process.wait()
        answered.append(kept(out))
    assert (out / "report.json").read_bytes() == wanted
    assert answered[-1] == 12  # a fast machine may end before it can be killed
    for index in (1, 2, 3):
        assert cli.main(words(folders, tmp_path / "parts", *more, "--shard", f"{index}/3")) == 0
    assert (tmp_path / "parts" / "report.json").read_bytes() == wanted


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--benchmarks", "refcoco"], "benchmark refcoco: needs the root of its data; add --data DIR"),
        (["--data", "."], "nothing to evaluate; add "),
        (["-b", "squares", "--shard", "1/2"], "--shard: the parts need a common folder; add -o FOLDER"),
        (["-b", "squares", "-o", __file__], "is a file; expected a folder"),
        (["-b", "squares", "--shard", "2"], "shard '2': expected I/N"),
        (["--data", ".", "--exported", "x"], "--data and --exported: both are roots of the data"),
        (["-b", "none", "--data", "."], "benchmark 'none' is unknown"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    folders: Path, more: list[str], message: str, small_benchmarks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["eval", str(folders / "model"), *more]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
