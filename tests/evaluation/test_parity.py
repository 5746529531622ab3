"""Recorded tensors are met, and every way not to meet them is told."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import build_model
from typer.testing import CliRunner

from sa2va.apps import cli
from sa2va.evaluation import parity
from sa2va.evaluation.parity import check_folder, limit_of
from sa2va.model.checkpoint import save_checkpoint
from sa2va.model.predictor import Predictor

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
QUESTION = "Please segment the red circle."
ANSWER = "It is [SEG] and [SEG]."


def record(predictor: Predictor, folder: Path, case: str, num_frames: int) -> None:
    """Write a case that the model itself has run, as a reference would."""
    frames = torch.randint(
        0, 256, (num_frames, 48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    processor = predictor.processor
    answer = processor.tokenizer.encode(ANSWER, add_special_tokens=False)
    given = {"images_uint8": frames, "forced_ids": torch.tensor(answer), "input_ids": torch.zeros(1)}
    prompt = f"<|im_start|>user\n<img></img>\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    names = ("input_ids", "seg_hidden", "seg_embed", "sam_fpn0_frame0", "seg0_final_mask", "seg1_final_mask")
    kept: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        while len(kept) < len(names):  # what a step is compared with can depend on what is recorded already
            steps = dict(parity._Case(predictor, prompt, given | kept).steps())
            kept = {name: steps[name].contiguous() for name in names if name in steps}
        given |= kept
        given["seg0_low"] = torch.zeros(num_frames, 1, 1, 1)
        low = [
            value
            for name, value in parity._Case(predictor, prompt, given).steps()
            if "seg0_low" in name and "recorded" in name
        ]
    save_file(given | {"seg0_low": torch.cat(low)}, folder / f"{case}.safetensors")
    (folder / f"{case}.json").write_text(json.dumps({"prompt": prompt}))


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
    done = CliRunner().invoke(cli.app, ["parity", str(folder), "--json"])
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
