"""Compare each recipe of the core with the numbers of the released configurations, written down here once more."""

import dataclasses
from pathlib import Path

import pytest
import torch
from support.small_families import build_family

from sa2va.checkpoints.folder import save_checkpoint
from sa2va.data.catalog import FOLDERS
from sa2va.training.config import apply_overrides
from sa2va.training.recipes import RECIPES, find_recipe
from sa2va.training.supervised import SupervisedConfig, SupervisedRun

# name: base, template, samples per GPU, accumulation, GPUs, LoRA rank and alpha, workers, steps between two states
TABLE = {
    "sa2va_1b": ("InternVL2.5-1B", "qwen_chat", 2, 4, 8, 128, 256, 4, 1000),
    "sa2va_4b": ("InternVL2.5-4B", "phi3_chat", 2, 4, 8, 128, 256, 4, 1000),
    "sa2va_8b": ("InternVL2.5-8B", "internlm2_chat", 2, 4, 8, 128, 256, 4, 2000),
    "sa2va_26b": ("InternVL2.5-26B", "internlm2_chat", 2, 4, 8, 128, 256, 4, 2000),
    "sa2va_internvl3_2b": ("InternVL3-2B", "qwen_chat", 2, 8, 16, 128, 256, 16, 2000),
    "sa2va_internvl3_8b": ("InternVL3-8B", "qwen_chat", 2, 4, 32, 256, 512, 16, 2000),
    "sa2va_internvl3_14b": ("InternVL3-14B", "qwen_chat", 1, 8, 32, 256, 512, 16, 2000),
    "sa2va_qwen2_5_vl_3b": ("Qwen2.5-VL-3B-Instruct", "qwen_chat", 2, 8, 16, 128, 256, 16, 2000),
    "sa2va_qwen2_5_vl_7b": ("Qwen2.5-VL-7B-Instruct", "qwen_chat", 1, 8, 32, 128, 256, 16, 2000),
    "sa2va_qwen3_vl_4b": ("Qwen3-VL-4B-Instruct", "qwen_chat", 1, 8, 16, 128, 256, 16, 2000),
}
ORDER = (
    "refcoco", "refcoco+", "refcocog", "llava", "revos", "mevis", "refytvos", "refsav", "videochat",
    "gcg_refcocog", "gcg_grandf", "gcg_flickr30k", "gcg_openpsg", "osprey", "osprey_description",
    "osprey_part", "osprey_short", "osprey_lvis",
)  # fmt: skip
CLIPS = (10, 4, 4, 4, 1)
REPEATS = {
    "InternVL2.5": (4, 4, 4, 1, *CLIPS, 1, 10, 1, 1, 1, 1, 1, 1, 1),
    "InternVL3-2B": (5, 5, 4, 1, *CLIPS, 5, 50, 5, 5, 1, 1),
    "InternVL3-8B": (5, 5, 4, 1, *CLIPS, 5, 50, 5, 5, 1, 1),
    "InternVL3-14B": (5, 5, 4, 1, *CLIPS, 10, 100, 10, 10, 1, 1),
    "Qwen": (5, 5, 4, 1, *CLIPS, 10, 100, 10, 10),
}


def read(name: str) -> tuple[SupervisedRun, SupervisedConfig]:
    run = find_recipe(name)()
    assert isinstance(run, SupervisedRun)
    (stage,) = run.stages
    assert isinstance(stage, SupervisedConfig)
    return run, stage


def test_every_recipe_of_the_core_is_in_the_table() -> None:
    assert set(TABLE) <= set(RECIPES)
    assert not [name for name in RECIPES if name.startswith("sa2va_") and name not in TABLE]


@pytest.mark.parametrize("name", TABLE)
def test_settings_of_a_recipe_are_those_released(name: str) -> None:
    run, stage = read(name)
    base, template, per_gpu, accumulate, gpus, rank, alpha, workers, save_every = TABLE[name]
    assert (run.name, run.base, run.template, run.seg_design) == (name, base, template, "")
    assert (stage.batch_size, stage.accumulate) == (per_gpu * accumulate * gpus, accumulate)
    assert (stage.lora_rank, stage.lora_alpha or 2 * stage.lora_rank, stage.lora_dropout) == (rank, alpha, 0.05)
    assert (stage.num_workers, stage.save_every) == (workers, save_every)
    repeats = next(value for key, value in REPEATS.items() if base.startswith(key))
    assert [(share.name, share.repeats, share.weight) for share in stage.datasets] == [
        (dataset, number, None) for dataset, number in zip(ORDER, repeats, strict=False)
    ]
    is_qwen = base.startswith("Qwen")
    assert run.family == ("internvl" if not is_qwen else "qwen3_vl" if "Qwen3" in base else "qwen2_5_vl")
    assert stage.trains_vision_projector == (not is_qwen)


@pytest.mark.parametrize("name", TABLE)
def test_settings_that_all_recipes_share_are_those_released(name: str) -> None:
    stage = read(name)[1]
    assert (stage.lr, stage.betas, stage.weight_decay, stage.decay_vectors) == (4e-5, (0.9, 0.999), 0.05, True)
    assert (stage.clip_norm, stage.warmup_share, stage.min_lr_ratio, stage.epochs, stage.steps) == (1, 0.05, 0, 1, 0)
    assert (stage.max_tokens, stage.autocast, stage.ema) == (8192, True, 0)
    assert (stage.max_objects, stage.draw.num_expressions, stage.mask_side) == (5, 5, 256)
    assert (stage.draw.groups, stage.draw.absent) == ("union", "mask")
    losses = dataclasses.asdict(stage.losses)
    assert losses == {
        "lm": 1, "bce": 2, "dice": 0.5, "place": 0, "iou": 0, "presence": 0, "num_points": 12544, "oversample": 3,
        "uncertain_share": 0.75, "candidate": "predicted", "skip_empty": False, "follow_iou": 0.5,
    }  # fmt: skip
    assert (stage.new_tokens, stage.trains_mask_decoder, stage.lora_targets) == ("all", True, ())
    assert (stage.frames, stage.frame_jitter, stage.num_frames) == ("model", True, 0)  # ours: as prediction


def test_every_dataset_of_the_recipes_has_a_folder() -> None:
    names = {share.name for name in TABLE for share in read(name)[1].datasets}
    assert names <= set(FOLDERS), names - set(FOLDERS)


def test_a_recipe_without_a_start_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="run sa2va_4b needs a model to start from; set start=FOLDER, made from Intern"
    ):
        read("sa2va_4b")[0].build_model(tmp_path)


def test_a_recipe_refuses_another_family_and_sets_its_template(tmp_path: Path) -> None:
    model, processor = build_family("internvl_qwen2")
    save_checkpoint(model, processor.tokenizer, tmp_path / "start", torch.float32)
    start = f"start={tmp_path / 'start'}"
    with pytest.raises(ValueError, match="trains a model of family qwen3_vl, and .* is of family internvl"):
        apply_overrides(read("sa2va_qwen3_vl_4b")[0], [start]).build_model(tmp_path)
    changed, writer = apply_overrides(read("sa2va_4b")[0], [start]).build_model(tmp_path)
    assert changed.config.template == writer.config.template == "phi3_chat"
    with pytest.raises(ValueError, match="unknown chat template 'loud'"):
        apply_overrides(read("sa2va_4b")[0], [start, "template=loud"]).build_model(tmp_path)


def test_overrides_of_a_recipe_need_no_name_of_its_only_stage() -> None:
    words = [
        "data=/all",
        "steps=200",
        "datasets.mevis.repeats=0",
        "datasets+=own:path=/p:repeats=3",
        "draw.absent=text",
    ]
    (stage,) = apply_overrides(read("sa2va_1b")[0], words).stages
    assert isinstance(stage, SupervisedConfig)
    assert (stage.data, stage.steps, stage.draw.absent, stage.datasets[-1].path) == ("/all", 200, "text", "/p")
