"""Check that a model reproduces recorded tensors, and that every kind of difference is reported."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.recorded_case import record
from support.small_model import build_model
from typer.testing import CliRunner

from sa2va.apps import cli
from sa2va.checkpoints.folder import save_checkpoint
from sa2va.evaluation.parity import check_folder, limit_of
from sa2va.inference.predictor import Predictor

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    model, processor = build_model()
    save_checkpoint(model, processor.tokenizer, folder, torch.float32)
    predictor = Predictor(model, processor)
    record(predictor, folder, "image", 1)
    record(predictor, folder, "video", 6)
    return folder


@pytest.fixture
def folder(recorded, tmp_path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "copy"))


def change(path: Path, name: str, by: float) -> None:
    tensors = load_file(path)
    save_file(tensors | {name: tensors[name] + by}, path, metadata={"format": "pt"})


def test_a_model_meets_its_own_recording(folder):
    rows = list(check_folder(folder, strict=True))
    assert [row.name for row in rows if not row.ok] == []
    assert {row.case for row in rows} == {"image", "video"}
    names = {row.name for row in rows if row.case == "video"}
    assert {"seg0_low prompted, recorded embedding", "seg0_low tracked, end to end", "seg1_final_mask"} <= names


@pytest.mark.parametrize(
    ("file", "name", "by", "told"),
    [
        ("model.safetensors", "projector.fc2.bias", 0.05, "seg_embed"),
        ("model.safetensors", "sam2.native.mask_decoder.upscale_conv2.bias", 0.05, "seg0_low"),
        ("image.safetensors", "seg_hidden", 1e-3, "seg_hidden"),
        ("video.safetensors", "sam_fpn0_frame0", 1e-3, "sam_fpn0_frame0"),
    ],
)
def test_a_difference_is_told_and_rounding_does_not_excuse_it(folder, file, name, by, told):
    change(folder / file, name, by)
    done = CliRunner().invoke(cli.build_app(), ["parity", str(folder), "--json"])
    assert done.exit_code == 1
    failed = {row["name"].split(" ")[0] for row in json.loads(done.stdout) if not row["ok"]}
    assert told in failed


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: [p.unlink() for p in f.glob("*.safetensors") if p.stem != "model"], "has no recorded case"),
        (lambda f: (f / "image.json").unlink(), "image.json is missing"),
        (lambda f: (f / "image.json").write_text("{}"), "not a recorded case"),
        (lambda f: (f / "image.json").write_text('{"prompt": "hello"}'), "another template"),
        (lambda f: (f / "video.safetensors").write_bytes(b"x"), "not a recorded case"),
        (lambda f: (f / "model.safetensors").unlink(), "model"),
        (lambda f: save_file({"a": torch.ones(1)}, f / "image.safetensors"), "has no images_uint8"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line_and_exit_2(folder, capsys, spoil, told):
    spoil(folder)
    assert cli.main(["parity", str(folder)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_limits_are_looked_up_by_name():
    assert limit_of("image", "seg_embed") == 2e-5
    assert limit_of("image", "seg0_low prompted, end to end") == 1e-3
    assert limit_of("video", "seg0_low tracked, end to end") == 3e-3
    assert limit_of("video", "seg0_low tracked, recorded embedding") == 3e-4
    assert limit_of("video", "seg1_final_mask") == 12
    assert limit_of("image", "input_ids") == 0
    assert limit_of("image", "visual") == 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("variant", ["internvl_qwen2", "internvl_internlm2", "qwen3vl"])
def test_the_released_models_tensors_are_met(variant):
    if not (GOLDEN / variant).is_dir():
        pytest.skip(f"no recordings at {GOLDEN / variant}")
    rows = list(check_folder(GOLDEN / variant))
    assert len(rows) > 50
    assert [(row.case, row.name, row.difference) for row in rows if not row.ok] == []
