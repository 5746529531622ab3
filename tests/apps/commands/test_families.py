"""Check every family with every command, and its conversion between the two layouts."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.published_folder import write_published
from support.recorded_case import record

from sa2va.apps import cli
from sa2va.checkpoints.folder import build_empty, load_checkpoint, load_config
from sa2va.checkpoints.published.layout import LAYOUTS, config_to_official
from sa2va.checkpoints.released import RELEASED
from sa2va.evaluation.parity import INPUTS
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options
from sa2va.model.families.catalog import FAMILIES

KINDS = {"internvl": "internvl_qwen2", "qwen2_5_vl": "qwen2_5_vl", "qwen3_vl": "qwen3_vl", "llava": "llava"}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random model of one family in the published layout, with context for any picture."""
    path = tmp_path_factory.mktemp("family") / request.param
    write_published(path, KINDS[request.param])
    values = json.loads((path / "config.json").read_text())
    values["llm_config" if "llm_config" in values else "text_config"]["max_position_embeddings"] = 8192
    (path / "config.json").write_text(json.dumps(values))
    return path


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media")
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    Image.fromarray(frames[0]).save(root / "scene.png")
    (root / "clip").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(root / "clip" / f"{number}.png")
    return root


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights never end an answer."""
    monkeypatch.setitem(Options.__init__.__kwdefaults__, "max_new_tokens", 4)


def test_every_family_answers(
    folder: Path, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, clip, model = str(media / "scene.png"), str(media / "clip"), ["--model", str(folder)]
    assert cli.main(["segment", picture, "the red circle", "--json", *model]) == 0
    assert json.loads(capsys.readouterr().out)["text"]
    assert cli.main(["track", clip, "the red circle", "-o", str(tmp_path / "out"), "-q", *model]) == 0
    annotations = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert annotations["videos"][0]["length"] == 3
    capsys.readouterr()
    assert cli.main(["caption", picture, "-q", *model]) == 0
    assert capsys.readouterr().out.strip()
    monkeypatch.setattr("sys.stdin", io.StringIO("What is there?\nAnd where?\n"))
    assert cli.main(["chat", picture, "-q", *model]) == 0
    assert capsys.readouterr().out.strip()


def test_every_family_is_examined(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", str(folder), "--json"]) in (0, 1)  # 1 where nothing fits this machine
    (report,) = json.loads(capsys.readouterr().out)["models"]
    model, _ = load_checkpoint(folder, torch.device("cpu"), torch.float32)
    assert report["family"] == folder.name
    assert report["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_every_family_meets_its_recording(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording has every compared tensor: pixels, image tokens, hidden states and outputs of SAM 2."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    predictor = Predictor(*load_checkpoint(copy, torch.device("cpu"), torch.float32))
    recorded = {"image": record(predictor, copy, "image", 1), "video": record(predictor, copy, "video", 7)}
    if predictor.processor.family.takes_regions:
        region = np.zeros((48, 64), bool)
        region[10:30, 5:40] = True
        recorded["visual_prompt"] = record(predictor, copy, "visual_prompt", 1, (region,))
    assert cli.main(["parity", str(copy), "--json", "--strict"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row["ok"] for row in rows)
    for case, tensors in recorded.items():
        compared = {row["name"].split(" ")[0] for row in rows if row["case"] == case}
        assert compared == tensors.keys() - set(INPUTS)
    steps = {row["name"] for row in rows if row["case"] == "video"}
    assert {"seg1_ptr tracked, end to end", "seg0_mem_feat_f32 prompted, recorded embedding"} <= steps
    pixels, visual = (
        ("pixel_values_u8", "visual") if folder.name.startswith("qwen") else ("llm_tiles_uint8", "projected_vit")
    )
    assert {pixels, visual, "input_ids", "sequences", "seg_hidden", "sam_fpn2_frame6", "seg1_final_mask"} <= steps


def test_every_family_goes_both_ways(folder: Path, tmp_path: Path) -> None:
    ours, back, again = tmp_path / "ours", tmp_path / "back", tmp_path / "again"
    for source, target, layout in ((folder, ours, "ours"), (ours, back, "official"), (back, again, "ours")):
        assert cli.main(["convert", str(source), str(target), "--to", layout, "-q"]) == 0
    assert load_config(ours) == load_config(folder) == load_config(back) == load_config(again)
    for one, other in ((folder, back), (ours, again)):
        before, after = (load_file(path / "model.safetensors") for path in (one, other))
        assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_settings_that_the_published_layout_lacks_come_back(folder: Path, tmp_path: Path) -> None:
    ours, back = tmp_path / "ours", tmp_path / "back"
    assert cli.main(["convert", str(folder), str(ours), "-q"]) == 0
    values = json.loads((ours / "config.json").read_text())
    values |= {"num_keyframes": 3, "keyframes": "uniform", "sure_keyframes": 0.5}
    values |= {"gate_absent": True, "system": "Be brief."}
    (ours / "config.json").write_text(json.dumps(values))
    assert cli.main(["convert", str(ours), str(back), "--to", "official", "-q"]) == 0
    assert load_config(back) == load_config(ours)
    assert load_config(back).num_keyframes == 3


@pytest.mark.parametrize("name", ["ByteDance/Sa2VA-1B", "ByteDance/Sa2VA-Qwen2_5-VL-3B", "ByteDance/Sa2VA-Qwen3-VL-2B"])
def test_a_released_model_is_described_in_the_published_layout(name: str) -> None:
    config = RELEASED[name].config
    official = config_to_official(config)
    image_token = FAMILIES[config.family].image_token
    told = LAYOUTS[config.family].config_from_official(official, {image_token: 5}, "")
    again = type(config)(family=config.family, sam2=config.sam2, **told)
    sizes = [
        {key: tuple(value.shape) for key, value in build_empty(each).state_dict().items()} for each in (config, again)
    ]
    assert sizes[0] == sizes[1]
    vision = official["vision_config"]
    if config.family == "internvl":
        assert (vision["image_size"], vision["patch_size"], told["tokens_per_tile"]) == (448, 14, 256)
