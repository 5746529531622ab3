"""Check `sa2va convert`: its files, its output, and that a failure leaves no files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.published_folder import write_published

from sa2va.apps import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_published(tmp_path / "published")
    return tmp_path / "published"


def test_to_our_layout_and_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, back = folder.parent / "deep" / "ours", folder.parent / "back"
    assert cli.main(["convert", str(folder), str(ours), "--dtype", "bfloat16"]) == 0
    assert f"to {ours}/ (ours layout)" in capsys.readouterr().err
    assert cli.main(["convert", str(ours), str(back), "--to", "official", "--dtype", "float32", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    before, after = (load_file(path / "model.safetensors") for path in (folder, back))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].bfloat16().float(), after[name]) for name in before)


def test_what_is_there_is_not_touched(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert cli.main(["convert", str(folder), str(folder)]) == 2
    assert "is there already; choose a new or empty folder" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_empty_folder_is_filled(folder: Path) -> None:
    (folder.parent / "empty").mkdir()
    assert cli.main(["convert", str(folder), str(folder.parent / "empty"), "-q"]) == 0
    assert (folder.parent / "empty" / "model.safetensors").is_file()


@pytest.mark.parametrize("words", [["nowhere", "new"], ["published", "published/config.json/new"]])
def test_bad_places_are_named(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = (str(folder.parent / word) for word in words)
    assert cli.main(["convert", source, target]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words[0 if words[0] == "nowhere" else 1] in error


def test_damage_in_the_middle_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(folder / "model.safetensors")
    last = max(tensors)
    tensors[last] = torch.full_like(tensors[last], float("nan"))
    save_file(tensors, folder / "model.safetensors")
    assert cli.main(["convert", str(folder), str(folder.parent / "a" / "b"), "-q"]) == 2
    assert f"{last} holds values that are not finite" in capsys.readouterr().err
    assert [path.name for path in folder.parent.iterdir()] == ["published"]


def test_a_pickle_needs_the_switch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    target = folder.parent / "new"
    assert cli.main(["convert", str(folder), str(target)]) == 2
    assert "--unsafe-pickle-ok" in capsys.readouterr().err and not target.exists()
    assert cli.main(["convert", str(folder), str(target), "--unsafe-pickle-ok", "-q"]) == 0
    assert (target / "model.safetensors").is_file()


def test_what_the_published_layout_cannot_say_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["convert", "tiny", str(tmp_path / "new"), "--to", "official"]) == 2
    assert "cannot be written in the published layout" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
