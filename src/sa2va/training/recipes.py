"""Say what a run is: a function that returns its configuration. Train one by name.

Flow: `sa2va train NAME [name=value ...]` -> RECIPES[NAME]() -> apply_overrides -> train -> `<output>/model`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sa2va.checkpoints.device import multiplies_bfloat16
from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import load_checkpoint, save_checkpoint
from sa2va.files.atomic import whole_folder
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import RunConfig, apply_overrides, refuse_two_outputs
from sa2va.training.logger import RunLogger, tell
from sa2va.training.stage import StageConfig
from sa2va.training.state import is_finished, mark_finished
from sa2va.training.trainer import Stage, prepare_process, run_stage
from sa2va.world.training.cotrain import CotrainStage, Teachers
from sa2va.world.training.encoders import SamVisionStage, VisionStage
from sa2va.world.training.head_calibration import calibrate
from sa2va.world.training.mask_decoder import MaskStage
from sa2va.world.training.memory import TrackStage
from sa2va.world.training.packed import PackedStage
from sa2va.world.training.tiny_model import (
    build_tiny_config,
    corpus,
    init_memory_attention,
    init_place_attention,
    init_positions,
    init_text,
    train_tokenizer,
)

MODEL = "model"  # where a run leaves what it trained


def tiny() -> RunConfig:
    """The embedded model: the parts first, as the paper's come pre-trained, then all tasks together."""
    return RunConfig(
        name="tiny",
        output="runs/tiny",
        calibration=600,
        stages=(
            StageConfig(name="vision", steps=3500, batch_size=16, lr=1.5e-3, warmup_steps=200),
            StageConfig(name="sam_vision", steps=1500, batch_size=16, lr=1.5e-3, warmup_steps=100),
            StageConfig(name="masks", steps=1000, batch_size=12, lr=1e-3, warmup_steps=50),
            StageConfig(name="tracking", steps=600, batch_size=6, lr=1e-3, warmup_steps=20),
            StageConfig(name="language", steps=2500, batch_size=16, lr=1e-3, warmup_steps=100),
            StageConfig(name="cotrain", steps=3000, batch_size=16, lr=8e-4, warmup_steps=100, ema=0.998),
        ),
    )


def tiny_more() -> RunConfig:
    """Go on with the embedded model from the weights in the package, on two CPU cores."""
    return _go_on(
        "tiny_more",
        StageConfig(name="vision", steps=2500, batch_size=16, lr=1e-3, warmup_steps=50),
        StageConfig(name="language", steps=1200, batch_size=16, lr=8e-4, warmup_steps=50),
        StageConfig(name="cotrain", steps=3000, batch_size=16, lr=8e-4, warmup_steps=60, ema=0.998),
    )


def tiny_gpu() -> RunConfig:
    """Go on with the embedded model on one GPU whose machine has 16 cores to draw with, in an hour."""
    return _go_on(
        "tiny_gpu",
        StageConfig(name="vision", steps=1000, batch_size=128, lr=1e-3, warmup_steps=50, num_workers=15),
        StageConfig(name="cotrain", steps=4000, batch_size=128, lr=1.2e-3, ema=0.998, num_workers=15),
        StageConfig(name="packed", steps=4000, batch_size=64, lr=1e-3, warmup_steps=60, ema=0.998, num_workers=15),
    )


def _go_on(name: str, *stages: StageConfig) -> RunConfig:
    """Describe a run that begins with the weights in the package and is calibrated anew."""
    return RunConfig(name=name, output=f"runs/{name}", start="tiny", calibration=600, stages=stages)


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "tiny": tiny,
    "tiny_more": tiny_more,
    "tiny_gpu": tiny_gpu,
}


def train(name: str, overrides: Sequence[str] = (), output: str | None = None, quiet: bool = False) -> Path:
    """Train a recipe to its end, or go on where an earlier run of it stopped.

    Args:
        name: a key of RECIPES.
        overrides: `name=value` words, see `apply_overrides`.
        output: folder of the run; None = the recipe's own.
        quiet: no progress bar.

    Returns:
        The folder of the trained model.

    Raises:
        ValueError: unknown recipe or setting, or a state that belongs to another run.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    config = apply_overrides(RECIPES[name](), list(overrides))
    refuse_two_outputs(overrides, output)
    for stage in config.stages:
        if stage.validate_every:
            raise ValueError(f"override 'validate_every.{stage.name}': this stage validates nothing; leave it out")
    folder = Path(output or config.output)
    if is_finished(folder, config):
        tell(f"{folder / MODEL}: done already, nothing was written", quiet=quiet)
        return folder / MODEL
    device = prepare_process(config)
    torch.manual_seed(config.seed)
    model, processor = build_start(config, folder)
    # On CPUs the fused kernel is several times slower than plain products for bfloat16 and short rows.
    for part in (model.mllm.native, model.sam2.native):
        part.set_attn_implementation("eager" if multiplies_bfloat16(device) else "sdpa")
    teachers = Teachers(model, with_code=not config.start).to(device)
    model.to(device)
    with RunLogger(folder, quiet=quiet) as logger:
        for stage in config.stages:
            stage = replace(stage, seed=config.seed)
            run_stage(build_stage(stage, model, processor, teachers), folder, device, logger)
    if config.calibration:
        calibrate(model, processor, seed=config.seed, num_requests=config.calibration)
    save_checkpoint(model, processor.tokenizer, folder / MODEL, torch.bfloat16)
    mark_finished(folder, config, [folder / MODEL])
    return folder / MODEL


def build_start(config: RunConfig, folder: Path) -> tuple[Sa2VA, Processor]:
    """Build the model a run begins with: random weights, or those of `config.start`."""
    if config.start:
        return load_checkpoint(find_model(config.start), torch.device("cpu"), torch.float32)
    tokenizer = load_tokenizer(folder / "tokenizer", config.seed)
    model = Sa2VA(build_tiny_config(tokenizer))
    init_positions(model)
    init_text(model)
    init_place_attention(model)
    init_memory_attention(model)
    return model, Processor(model.config, tokenizer)


def load_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerBase:
    """Train the tokenizer of a run once; a resumed run reads the one it began with."""
    if not (folder / "tokenizer.json").is_file():
        with whole_folder(folder) as draft:
            train_tokenizer(corpus(seed)).save_pretrained(draft)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def build_stage(config: StageConfig, model: Sa2VA, processor: Processor, teachers: Teachers) -> Stage:
    """Build the stage that a config names."""
    match config.name:
        case "vision":
            return VisionStage(config, model, processor)
        case "sam_vision":
            return SamVisionStage(config, model, processor)
        case "masks":
            if teachers.code is None:
                raise ValueError(
                    "stage masks cannot go on from a finished model, which has no object code; start from nothing"
                )
            return MaskStage(config, model, processor, teachers.code, num_objects=48)
        case "tracking":
            return TrackStage(config, model, processor)
        case "language" | "cotrain":
            return CotrainStage(config, model, processor, teachers, draws=config.name != "language")
        case "packed":
            return PackedStage(config, model, processor, teachers)
    known = "vision, sam_vision, masks, tracking, language, cotrain, packed"
    raise ValueError(f"unknown stage {config.name!r}; known: {known}")
