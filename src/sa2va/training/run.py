"""Run a recipe: build the model, train the stages in order, save the trained model.

Flow: `sa2va train NAME [name=value ...]` -> recipes.py -> apply_overrides -> train -> `<output>/model`.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from sa2va.checkpoints.device import multiplies_bfloat16
from sa2va.model.attention import BLOCKWISE
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import RunConfig, apply_overrides, refuse_two_outputs
from sa2va.training.logger import RunLogger, tell
from sa2va.training.processes import end_process, is_main_process, main_process_first, start_process, wait_for_all
from sa2va.training.provenance import find_commit, write_record
from sa2va.training.recipes import find_recipe
from sa2va.training.stage import RunContext, StageConfig
from sa2va.training.state import is_finished, mark_finished
from sa2va.training.trainer import run_stage


def train(name: str, overrides: Sequence[str] = (), output: str | None = None, quiet: bool = False) -> Path:
    """Train a recipe to its end, or resume an interrupted run.

    Args:
        name: name of the recipe, see `find_recipe`.
        overrides: `name=value` words, see `apply_overrides`.
        output: folder of the run; None = that of the recipe.
        quiet: print no progress.

    Returns:
        The folder of the trained model.

    Raises:
        ValueError: unknown recipe or setting, or a state of another run.
    """
    config = apply_overrides(find_recipe(name)(), list(overrides))
    refuse_two_outputs(overrides, output)
    folder = Path(output or config.output)
    train_run(config, folder, quiet, shlex.join(["sa2va", "train", name, *overrides]))
    return folder / config.results[0]


def train_run(config: RunConfig, folder: Path, quiet: bool = False, command: str = "") -> None:
    """Train a run to its end in a folder, or resume it there; see `train`. `command` is kept beside the weights."""
    device = start_process(config.device, config.threads, config.parallel)
    try:
        with main_process_first():
            done = is_finished(folder, config)
        if done:
            place = folder / config.results[0]
            tell(f"{place}: done already, nothing was written", quiet=quiet or not is_main_process())
        else:
            _train(config, folder, device, quiet, command)
    finally:
        end_process()


def _train(config: RunConfig, folder: Path, device: torch.device, quiet: bool, command: str) -> None:
    find_commit()  # now, since the checkout may move on while its code trains
    stages = [config.describe_stage(stage) for stage in config.stages]
    with RunLogger(folder, quiet=quiet, main=is_main_process()) as logger:
        if config.parallel == "fsdp":
            # A sharded module stays sharded. So each stage begins with a new model, which takes the weights of the
            # finished stages from the disk, as a resumed run does; and so does the model that is saved.
            for number in range(1, len(stages) + 1):
                _run_stages(config, stages[:number], folder, device, logger)
            device = torch.device("cpu")
        model, processor = _run_stages(config, stages, folder, device, logger)
    config.finish(model, processor)
    if is_main_process():
        config.save(model, processor, folder)
        write_record(config, folder, command)
        mark_finished(folder, config, [folder / name for name in config.results])
    wait_for_all()


def _run_stages(
    config: RunConfig, stages: Sequence[StageConfig], folder: Path, device: torch.device, logger: RunLogger
) -> tuple[Sa2VA, Processor]:
    """Build the model and train the stages that are not finished; return it on `device`, or sharded."""
    torch.manual_seed(config.seed)
    with main_process_first():
        model, processor = config.build_model(folder)
    # On CPUs the fused kernel is several times slower than eager attention for bfloat16 and short rows. The language
    # model and the image encoders have an attention of their own.
    model.sam2.native.set_attn_implementation("eager" if multiplies_bfloat16(device) else "sdpa")
    model.sam2.native.vision_encoder.set_attn_implementation(BLOCKWISE)
    if config.parallel == "ddp":  # a model to share may be too large for one device
        model.to(device)
    context = RunContext(model=model, processor=processor, seed=config.seed, folder=folder, device=device)
    for stage in stages:
        run_stage(stage.build(context), folder, device, logger)
    return model, processor
