"""Say what a run of gaze training is: a function that returns its configuration. Train one by name.

Flow: `sa2va gaze train NAME [name=value ...]` -> GAZE_RECIPES[NAME]() -> apply_overrides -> train_gaze
    -> `<output>/gaze`: gaze.safetensors and gaze.json, to be put beside the model or named by `load_gaze(gaze=...)`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from sa2va.gaze.model.decoder import DecoderConfig, EventDecoder
from sa2va.gaze.model.losses import EventLossConfig
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.predictor import save_gaze
from sa2va.gaze.training.drawn import Beliefs, DrawnStage
from sa2va.model.checkpoint import load_checkpoint
from sa2va.model.loading import choose_device, find_model
from sa2va.training.config import StageConfig, apply_overrides
from sa2va.training.logger import RunLogger
from sa2va.training.loop import run_stage


@dataclass(frozen=True, kw_only=True)
class GazeRunConfig:
    """A run: the model it stands on, the decoder it trains, and for how long."""

    name: str
    output: str
    start: str = "tiny"  # model folder, "tiny", or org/name on a hub; it is not changed
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    stage: StageConfig
    losses: EventLossConfig = field(default_factory=EventLossConfig)
    num_people: int = 4  # of each expression in a batch
    beliefs: Beliefs = "model"  # or "possible", "target": what is known of the scene, to see what the eyes alone can do
    seed: int = 0
    device: str = "auto"
    threads: int = 0


def tiny_gaze() -> GazeRunConfig:
    """The embedded model looks at the drawn world."""
    return GazeRunConfig(
        name="tiny_gaze",
        output="runs/tiny_gaze",
        decoder=DecoderConfig(width=96, num_layers=3, place_width=32, num_observers=2),
        stage=StageConfig(name="gaze", steps=3000, batch_size=32, lr=2e-3, warmup_steps=100, autocast=False, ema=0.998),
    )


def published_gaze() -> GazeRunConfig:
    """Any published Sa2VA, itself left as it is: a larger decoder on its states and masks."""
    return GazeRunConfig(
        name="published_gaze",
        output="runs/published_gaze",
        start="ByteDance/Sa2VA-4B",
        decoder=DecoderConfig(width=256, num_layers=4, num_heads=8, place_width=64, cell=8, num_observers=4),
        stage=StageConfig(name="gaze", steps=20000, batch_size=64, lr=5e-4, warmup_steps=500, ema=0.999, num_workers=8),
        num_people=8,
    )


GAZE_RECIPES: dict[str, Callable[[], GazeRunConfig]] = {"tiny_gaze": tiny_gaze, "published_gaze": published_gaze}


def configure(name: str, overrides: Sequence[str] = ()) -> GazeRunConfig:
    """Return the configuration of a run.

    Raises:
        ValueError: unknown recipe or setting.
    """
    if name not in GAZE_RECIPES:
        raise ValueError(f"unknown gaze recipe {name!r}; known: {', '.join(GAZE_RECIPES)}")
    return apply_overrides(GAZE_RECIPES[name](), list(overrides))


def train_gaze(name: str, overrides: Sequence[str] = (), output: str | None = None, quiet: bool = False) -> Path:
    """Train a recipe to its end, or go on where an earlier run of it stopped.

    Args:
        name: a key of GAZE_RECIPES.
        overrides: `name=value` words, such as `stage.steps=100` or `beliefs=target`.
        output: folder of the run; None = the recipe's own.
        quiet: no progress bar.

    Returns:
        The folder of the gaze weights.

    Raises:
        ValueError: unknown recipe or setting, no such model, or a state that belongs to another run.
    """
    config = configure(name, overrides)
    folder = Path(output or config.output)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    sa2va, processor = load_checkpoint(find_model(config.start), device, torch.float32)
    torch.manual_seed(config.seed)
    widths = replace(config.decoder, state_width=sa2va.mllm.width, image_channels=sa2va.sam2.width)
    model = ScanpathModel(sa2va, processor, EventDecoder(widths)).to(device)
    stage = DrawnStage(
        replace(config.stage, seed=config.seed),
        model,
        num_people=config.num_people,
        beliefs=config.beliefs,
        losses=config.losses,
    )
    with RunLogger(folder, quiet=quiet) as logger:
        run_stage(stage, folder, device, logger)
    save_gaze(model.decoder, folder / "gaze")
    return folder / "gaze"
