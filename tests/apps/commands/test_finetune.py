"""Check `sa2va finetune`: an adapter, figures before and after, and bad input in one line."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from support.own_formats import coco_content, write_pictures
from support.own_pictures import write_squares
from support.stored_layouts import write_json

from sa2va.apps.cli import main
from sa2va.apps.commands.finetune import count_notes
from sa2va.data.own.dataset import build
from sa2va.data.own.objects import OwnConfig
from sa2va.inference.loading import load

SETTINGS = ["steps=2", "batch_size=2", "num_workers=0", "device=cpu", "losses.num_points=64", "mask_side=32"]


@pytest.fixture(scope="module")
def base(folder: Path) -> str:
    return str(folder)


def test_one_command_gives_an_adapter_and_a_report(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_squares(tmp_path / "data"), tmp_path / "out"
    before = {path: path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}
    command = ["finetune", "--data", str(data), "--base", base, "-o", str(out), *SETTINGS]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "coco, 6 pictures, 6 objects; categories: red square 6" in told.err
    assert "5 expressions in 5 pictures or clips; held out: 1 expressions" in told.err
    assert "parameters (text_model lora" in told.err and "MB" in told.err
    assert "before" in told.out and "after" in told.out and f"--adapter {out}" in told.out
    report = json.loads((out / "report.json").read_text())
    assert report["num_records"] == 1
    assert [figure["name"] for figure in report["before"]] == [figure["name"] for figure in report["after"]]
    assert report["adapter_bytes"] == (out / "adapter_model.safetensors").stat().st_size
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width >= 200
    load(base, adapter=out, device="cpu")
    assert {path: path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()} == before
    stamp = (out / "adapter_model.safetensors").stat().st_mtime_ns
    assert main([*command, "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out) == report
    assert (out / "adapter_model.safetensors").stat().st_mtime_ns == stamp


def empty(folder: Path) -> None:
    folder.mkdir()


def without_masks(folder: Path) -> None:
    content = json.loads((write_squares(folder) / "train.json").read_text())
    (folder / "train.json").write_text(json.dumps(content | {"annotations": []}))


def one_picture(folder: Path) -> None:
    write_squares(folder, 1)


@pytest.mark.parametrize(
    ("make", "words", "message"),
    [
        (lambda folder: None, [], "there is no such file or folder"),
        (empty, [], "no known format was found"),
        (without_masks, [], "can be named"),
        (one_picture, [], "none is held out"),
        (write_squares, ["--recipe", "huge"], "unknown recipe 'huge'"),
        (write_squares, ["stepz=3"], "no setting 'stepz'"),
        (write_squares, ["output=x"], "the output is given as"),
        (write_squares, ["--base", "/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_is_one_line(
    make: object, words: list[str], message: str, base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "data")  # ty: ignore[call-non-callable]
    command = ["finetune", "--data", str(tmp_path / "data"), "--base", base, "-o", str(tmp_path / "out"), *SETTINGS]
    assert main([*command, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("sa2va: ") and message in error


@pytest.mark.parametrize("names, expected", [(["train", "val"], 2), (["labels"], 1)])
def test_notes_of_both_parts_are_counted_once(tmp_path: Path, names: list[str], expected: int) -> None:
    write_pictures(tmp_path / "images")
    for name in names:
        content = coco_content(segmentation=[])
        content["annotations"] = [one | {"caption": f"thing {one['id']}"} for one in content["annotations"]]
        write_json(tmp_path / f"{name}.json", content)
    own = OwnConfig(unmasked="skip", held_out=0.5, seed=0)
    train, held_out = (build(tmp_path, split=split, own=own) for split in ("train", "val"))
    assert count_notes(train, held_out) == {"objects with a box and no mask": expected}


def test_a_folder_of_others_is_refused(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_squares(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("mine")
    command = ["finetune", "--data", str(data), "--base", base, "-o", str(out), *SETTINGS]
    assert main(command) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["report.json"]


def test_a_folder_of_another_run_is_refused(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "finetune.json").write_text(json.dumps({"data": "/elsewhere", "base": base, "recipe": "light"}))
    data = write_squares(tmp_path / "data")
    assert main(["finetune", "--data", str(data), "--base", base, "-o", str(out), *SETTINGS]) == 2
    assert "holds a run with data /elsewhere" in capsys.readouterr().err


def test_figures_are_those_of_the_weights_in_the_folder(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_squares(tmp_path / "data"), tmp_path / "out"
    command = ["finetune", "--data", str(data), "--base", base, "-o", str(out), "-q", *SETTINGS]
    assert main(command) == 0
    for name in ("before.json", "after.json"):  # as if other weights had given these answers
        found = json.loads((out / name).read_text())
        found["records"][0]["overlap"] = [7, 7, 7, 7]
        (out / name).write_text(json.dumps(found))
    assert main(command) == 0
    assert json.loads((out / "report.json").read_text())["after"][0]["value"] == 1  # kept: nothing has changed
    shutil.rmtree(out / "adapt")  # train anew
    assert main([*command, "lr=1e-2"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["before"][0]["value"] == 1
    assert report["after"][0]["value"] < 1
    assert main([*command, "lr=1e-2", "seed=1"]) == 2  # other questions: measured anew, and another training is refused
    assert json.loads((out / "before.json").read_text())["records"][0]["overlap"] != [7, 7, 7, 7]
    capsys.readouterr()
