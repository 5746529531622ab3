"""List the recipes of gaze training, and train one by name.

Flow: `sa2va gaze train NAME [name=value ...]` -> GAZE_RECIPES[NAME]() -> apply_overrides -> train_gaze
    -> `<output>/gaze`: gaze.safetensors and gaze.json, for a model folder or `load_gaze(gaze=...)`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sa2va.checkpoints.device import choose_device
from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import load_checkpoint
from sa2va.gaze.model.decoder import DecoderConfig, EventDecoder
from sa2va.gaze.model.losses import EventLossConfig
from sa2va.gaze.model.scanpath_model import ScanpathModel, fingerprint
from sa2va.gaze.predictor import load_decoder, read_card, save_gaze
from sa2va.gaze.training.joint import JointStage
from sa2va.gaze.training.simulated import Beliefs
from sa2va.gaze.training.store import Store, StoreConfig, fill, read
from sa2va.gaze.training.stored import StoredStage
from sa2va.model.torch_defaults import plain_defaults
from sa2va.training.config import apply_overrides, refuse_two_outputs
from sa2va.training.logger import RunLogger, tell
from sa2va.training.seeding import seeded
from sa2va.training.stage import OF_THE_RUN, StageConfig
from sa2va.training.state import is_finished, mark_finished
from sa2va.training.trainer import run_stage

GAZE, EYES, ADAPTER = "gaze", "eyes_alone", "adapter"  # folders of trained weights in a run: decoder, pretrained, LoRA
NEW = 0.1  # factor of the random initial weights of inputs that the pretrained decoder lacks


@dataclass(frozen=True, kw_only=True)
class GazeRunConfig:
    """Two-stage run: pretrain the decoder on oracle beliefs (`eyes`), then train it on a Sa2VA (`gaze`)."""

    name: str = field(metadata=OF_THE_RUN)
    output: str
    start: str = "tiny"  # Sa2VA: "tiny", a model folder, or org/name on a hub; read-only
    ancestor: str = ""  # folder of pretrained gaze weights, which replaces the first stage; "" = run the first stage
    store: StoreConfig = field(default_factory=StoreConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    eyes: StageConfig
    gaze: StageConfig
    losses: EventLossConfig = field(
        default_factory=lambda: EventLossConfig(stop_off_target=12.0)
    )  # as for the embedded weights
    num_people: int = 10  # observers of each expression in a batch
    lora_rank: int = 0  # rank of the language model's adapter in the second stage; 0 = frozen language model
    prefix_weight: float = 0.5  # weight of the loss on masks of prefixes, with an adapter
    beliefs: Beliefs = "model"  # of the second stage; "possible" and "target" are ablations with oracle beliefs
    seed: int = 0
    device: str = "auto"
    threads: int = 0


def tiny_gaze() -> GazeRunConfig:
    """Train the embedded model's gaze decoder on synthetic scenes, for as many steps as the packaged weights.

    The packaged weights were trained in several runs while the language model changed; their card lists the runs. They
    cannot be reproduced exactly, because the earlier language models are not kept.
    """
    eyes = StageConfig(
        name="eyes", steps=800, batch_size=40, lr=2e-3, warmup_steps=100, ema=0.995, autocast=False, num_workers=0,
        validate_every=500, log_every=50,
    )  # fmt: skip
    return GazeRunConfig(
        name="tiny_gaze",
        output="runs/tiny_gaze",
        decoder=DecoderConfig(width=96, num_layers=3, num_observers=2),
        eyes=eyes,
        gaze=replace(eyes, name="gaze", steps=12600, lr=1e-3, ema=0.998),
    )


def published_gaze() -> GazeRunConfig:
    """Train a larger decoder on the states and masks of any published Sa2VA, which stays frozen."""
    return GazeRunConfig(
        name="published_gaze",
        output="runs/published_gaze",
        start="ByteDance/Sa2VA-4B",
        store=StoreConfig(num_cases=20000),
        decoder=DecoderConfig(width=256, num_layers=4, num_heads=8, place_width=48, cell=8, num_observers=4),
        eyes=StageConfig(name="eyes", steps=5000, batch_size=80, lr=1e-3, warmup_steps=500, ema=0.998),
        gaze=StageConfig(name="gaze", steps=20000, batch_size=80, lr=5e-4, warmup_steps=500, ema=0.999),
    )


def published_gaze_lora() -> GazeRunConfig:
    """Train a larger decoder and a LoRA adapter on any published Sa2VA, with a mask loss on prefixes."""
    base = published_gaze()
    return replace(
        base,
        name="published_gaze_lora",
        output="runs/published_gaze_lora",
        lora_rank=16,
        num_people=8,
        gaze=replace(base.gaze, steps=10000, batch_size=32, lr=2e-4, num_workers=8),
    )


GAZE_RECIPES: dict[str, Callable[[], GazeRunConfig]] = {
    "tiny_gaze": tiny_gaze,
    "published_gaze": published_gaze,
    "published_gaze_lora": published_gaze_lora,
}


def configure(name: str, overrides: Sequence[str] = ()) -> GazeRunConfig:
    """Return the configuration of a run.

    Raises:
        ValueError: unknown recipe or setting, or a setting without effect in this run.
    """
    if name not in GAZE_RECIPES:
        raise ValueError(f"unknown gaze recipe {name!r}; known: {', '.join(GAZE_RECIPES)}")
    config = apply_overrides(GAZE_RECIPES[name](), list(overrides))
    given = sorted({word.partition("=")[0].strip() for word in overrides})
    # A stage with an adapter has no store and no validation. Without an adapter there is no mask loss.
    names = {"beliefs", "gaze.validate_every"} if config.lora_rank else {"prefix_weight"}
    idle = dict.fromkeys(names, f"has no effect at lora_rank={config.lora_rank}")
    idle |= dict.fromkeys(("decoder.state_width", "decoder.image_channels"), "comes from the model")
    for setting in given:
        if setting in idle:
            raise ValueError(f"override {setting!r}: {idle[setting]}; leave it out")
    return config


@plain_defaults()
def train_gaze(name: str, overrides: Sequence[str] = (), output: str | None = None, quiet: bool = False) -> Path:
    """Train a recipe to its end, or resume an interrupted run.

    Args:
        name: a key of GAZE_RECIPES.
        overrides: `name=value` words, such as `gaze.steps=100`, `beliefs=target` or `ancestor=runs/tiny_gaze/gaze`.
        output: folder of the run; None = that of the recipe.
        quiet: print no progress.

    Returns:
        The folder of the gaze weights. Next to it are the pretrained decoder, `eyes_alone`, and the LoRA `adapter`, if
        the recipe trains them.

    Raises:
        ValueError: unknown recipe or setting, no such model, or a saved state of another run.
    """
    config = configure(name, overrides)
    refuse_two_outputs(overrides, output)
    folder = Path(output or config.output)
    if is_finished(folder, config):
        tell(f"{folder / GAZE}: done already, nothing was written", quiet=quiet)
        return folder / GAZE
    source = find_model(config.start)  # report a missing model before training
    if config.ancestor:
        load_decoder(Path(config.ancestor))
    if config.threads:
        torch.set_num_threads(config.threads)
    device, grid = choose_device(config.device), config.decoder.grid
    with RunLogger(folder, quiet=quiet) as logger, seeded(config.seed):
        parent = Path(config.ancestor) if config.ancestor else _train_eyes(config, folder, logger)
        sa2va, processor = load_checkpoint(source, device, torch.float32)
        torch.manual_seed(config.seed)
        widths = replace(config.decoder, state_width=sa2va.mllm.width, image_channels=sa2va.sam2.width)
        model = ScanpathModel(sa2va, processor, EventDecoder(widths)).to(device).eval()
        adopt(model.decoder, parent)
        card = describe(config, config.gaze) | {"model": fingerprint(sa2va), "ancestors": list_ancestors(parent)}
        if config.lora_rank:
            _run_joint(config, model, folder, logger)
        else:
            fill(folder / "store", config.store, grid, model, tell=logger.note)
            _run(config, config.gaze, model.decoder, read(folder / "store", config.store, grid, sa2va), folder, logger)
    save_gaze(model.decoder, folder / GAZE, card)
    results = [folder / GAZE, folder / EYES, *([folder / ADAPTER] if config.lora_rank else [])]
    mark_finished(folder, config, results)
    return folder / GAZE


def _train_eyes(config: GazeRunConfig, folder: Path, logger: RunLogger) -> Path:
    """Run the pretraining stage; return the folder of its weights."""
    eyes, grid = EventDecoder(config.decoder), config.decoder.grid
    fill(folder / "store", config.store, grid, None, tell=logger.note)
    _run(config, config.eyes, eyes, read(folder / "store", config.store, grid, None), folder, logger)
    save_gaze(eyes, folder / EYES, describe(config, config.eyes))
    return folder / EYES


def _run(
    config: GazeRunConfig, stage: StageConfig, decoder: EventDecoder, store: Store, folder: Path, logger: RunLogger
) -> None:
    """Run one stage; a store without groundings of a model gives oracle beliefs."""
    beliefs = config.beliefs if store.heard is not None else "possible"
    made = StoredStage(
        replace(stage, seed=config.seed),
        decoder,
        store,
        num_people=config.num_people,
        beliefs=beliefs,
        losses=config.losses,
    )
    run_stage(made, folder, choose_device(config.device), logger)


def _run_joint(config: GazeRunConfig, model: ScanpathModel, folder: Path, logger: RunLogger) -> None:
    """Run the second stage with a LoRA adapter, and save the adapter."""
    stage = JointStage(
        replace(config.gaze, seed=config.seed),
        model,
        config.store,
        num_people=config.num_people,
        rank=config.lora_rank,
        losses=config.losses,
        prefix_weight=config.prefix_weight,
    )
    run_stage(stage, folder, choose_device(config.device), logger)
    stage.save_adapter(folder / ADAPTER)


def adopt(decoder: EventDecoder, folder: Path) -> None:
    """Initialize from a pretrained decoder; weights of inputs that it lacks are scaled by NEW, or 0 for `hear`.

    Raises:
        ValueError: the folder has no gaze weights, or the decoders differ in size.
    """
    eyes, state = load_decoder(folder), decoder.state_dict()
    given = {name: (value, getattr(decoder.config, name)) for name, value in asdict(eyes.config).items()}
    new = () if eyes.config.state_width else ("state_width", "image_channels")
    for name, (theirs, ours) in given.items():
        if theirs != ours and name not in new:
            raise ValueError(
                f"{folder}: the decoder has {name} {theirs}, this run has {ours}; set decoder.{name}={theirs}"
            )
    with torch.no_grad():
        for name, known in eyes.state_dict().items():
            if state[name].shape != known.shape:
                state[name].mul_(NEW)  # new input channels come after the pretrained ones
            state[name][tuple(slice(size) for size in known.shape)] = known
        if decoder.hear is not None and eyes.hear is None:
            decoder.hear.weight.zero_()
            decoder.hear.bias.zero_()


def describe(config: GazeRunConfig, stage: StageConfig) -> dict[str, Any]:
    """Return the training record for the card: settings that may differ between successive runs."""
    return {
        "recipe": config.name,
        "start": config.start,
        "stage": stage.name,
        "steps": stage.steps,
        "learning rate": stage.lr,
        "scanpaths per step": stage.batch_size,
        "expressions": config.store.num_cases,
        "people per expression": config.store.num_people,
        "seed": config.seed,
        "beliefs": config.beliefs if stage is config.gaze else "possible",
        "losses": asdict(config.losses),
        "people and scenes": f"drawn, {config.store.split}, seed {config.store.seed}",
    }


def list_ancestors(folder: Path) -> list[dict[str, Any]]:
    """Return the cards of the weights that a run continues, oldest first, ending with the card in `folder`."""
    card = read_card(folder)
    return [*card.pop("ancestors", []), card]
