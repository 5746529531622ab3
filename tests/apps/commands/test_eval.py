"""Check that `sa2va eval -o FOLDER` keeps the scores of different runs apart, and those of parallel ones together."""

import json
import os
import subprocess
import sys
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
    return len((out / "journal.jsonl").read_bytes().splitlines())


def test_another_precision_adapter_or_sam_is_another_run(
    folders: Path, tmp_path: Path, small_benchmarks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    peft = pytest.importorskip("peft", reason="pip install 'sa2va[adapter]'")
    for number in (1, 2):
        model, config = build_model()[0], peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        torch.manual_seed(number)
        peft.get_peft_model(model.mllm.native, config).save_pretrained(tmp_path / f"adapter{number}")
    out, ways = (
        tmp_path / "out",
        ([], ["--dtype", "bfloat16"], ["--quantize", "int8"], ["--sam", str(folders / "sam2")]),
    )
    ways += tuple(["--adapter", str(tmp_path / f"adapter{number}")] for number in (1, 2))
    stamps = []
    for number, way in enumerate(ways, 1):
        assert cli.main(words(folders, out, *way)) == 0
        assert kept(out) == ITEMS * number, way
        stamps.append(json.loads(capsys.readouterr().out)["environment"])
    assert [stamp["dtype"] for stamp in stamps] == ["float32", "bfloat16", *["float32"] * 4]
    assert [stamp["quantize"] for stamp in stamps] == [None, None, "int8", None, None, None]
    assert [stamp["sam"] is not None for stamp in stamps] == [False, False, False, True, False, False]
    assert len({stamp["adapter_hash"] for stamp in stamps}) == 3
    for way in (ways[0], ways[-1]):  # each finds its own again
        assert cli.main(words(folders, out, *way)) == 0
    assert kept(out) == ITEMS * len(ways)
    capsys.readouterr()


def test_two_processes_share_a_folder_and_a_third_reports_all(
    folders: Path,
    tmp_path: Path,
    small_benchmarks: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, names = tmp_path / "out", ("squares", "colors")
    code = "import sys; from support.small_benchmark import register; from sa2va.apps.cli import main; register(); "
    start = [sys.executable, "-c", code + "sys.exit(main())"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")]))
    running = [
        subprocess.Popen([*start, *words(folders, out, benchmarks=[name])], stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    alone = [json.loads(process.communicate()[0])["sections"][0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert kept(out) == ITEMS * len(names)
    assert cli.main(words(folders, out, benchmarks=names)) == 0
    assert kept(out) == ITEMS * len(names)  # nothing was asked again
    whole = json.loads(capsys.readouterr().out)["sections"]
    assert [(one["name"], one["figures"]) for one in whole] == [(one["name"], one["figures"]) for one in alone]
    assert json.loads((out / "report.json").read_text())["sections"] == whole
    assert sorted(path.name for path in out.iterdir()) == ["journal.jsonl", "report.json", "report.md", "report.txt"]
