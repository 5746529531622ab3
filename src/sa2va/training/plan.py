"""Describe a run before it starts: parameters, samples and tokens of a step, memory, the share of each dataset.

Flow: RunConfig -> config of its start model, without weights -> plan_run -> RunPlan -> `sa2va train --dry-run`.
    Datasets are opened and all their records checked, as in training; a few samples are decoded to count tokens.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from sa2va.checkpoints.device import choose_device
from sa2va.checkpoints.find import EMBEDDED, find_model
from sa2va.checkpoints.folder import build_empty, has_weights, load_config, open_checkpoint
from sa2va.checkpoints.released import RELEASED
from sa2va.checkpoints.tokenizers import load_tokenizer
from sa2va.model.config import Sa2VAConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import RunConfig
from sa2va.training.loader import StepSampler
from sa2va.training.memory_plan import Load, MemoryPlan, measure_step
from sa2va.training.mixture import drawn_name
from sa2va.training.parts import find_parts
from sa2va.training.reinforce import ReinforceConfig
from sa2va.training.supervised import (
    SupervisedConfig,
    SupervisedData,
    SupervisedRun,
    choose_trained,
    new_token_ids,
    save_memory,
)

SAMPLES_READ = 24  # samples that are decoded to count tokens
ITEMS_COUNTED = 100_000  # items of the mixture by which shares are counted; they are exact after every 100
AS_CONFIGURED, ALL_SAVERS = "as configured", "all of these"


@dataclass(frozen=True)
class PartSize:
    """Number of parameters of a part of the model."""

    part: str
    trained: int
    frozen: int


@dataclass(frozen=True)
class StepLoad:
    """Mean and largest batch of one process and forward pass, over some batches that were read."""

    samples: int  # of one process and forward pass
    tokens: float  # mean, visual tokens included
    most_tokens: int
    visual_tokens: float
    frames: float  # for SAM 2
    masks: float


@dataclass(frozen=True)
class StagePlan:
    """Description of one stage."""

    name: str
    steps: int
    samples: int  # of a step, over all processes
    accumulate: int
    processes: int
    parts: tuple[PartSize, ...]
    load: StepLoad
    precision: str
    memory: dict[str, MemoryPlan]  # of one process, by what differs from the configuration
    mixture: list[dict[str, Any]]  # a row for each dataset, see `TrainingMixture.rows`


@dataclass(frozen=True)
class RunPlan:
    """Description of a run."""

    recipe: str
    start: str
    device: str
    stages: tuple[StagePlan, ...]


def plan_run(config: RunConfig, num_processes: int = 1) -> RunPlan:
    """Describe a run of supervised training without loading weights.

    Args:
        config: of the run; its start model may be a name of a released model, of which the config is known.
        num_processes: number of processes that share a step.

    Raises:
        ValueError: the run has other stages, or its start model or data are missing or damaged.
    """
    described = map(config.describe_stage, config.stages)
    stages = [stage for stage in described if isinstance(stage, SupervisedConfig)]
    stages = [stage for stage in stages if not isinstance(stage, ReinforceConfig)]  # their answers are not known yet
    if not isinstance(config, SupervisedRun) or len(stages) < len(config.stages):
        raise ValueError(f"recipe {config.name}: a dry run describes supervised training alone; start it without")
    device = choose_device(config.device)
    plans = [_plan_stage(config, stage, device, num_processes) for stage in stages]
    return RunPlan(config.name, config.start, str(device), tuple(plans))


@dataclass(frozen=True)
class StartModel:
    """Config and tokenizer of the model that a run starts from."""

    config: Sa2VAConfig
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def of(cls, run: SupervisedRun) -> "StartModel":
        """Read the files of a start model, without its weights.

        The embedded tokenizer stands in for that of a released model that is not on this machine.

        Raises:
            ValueError: there is no such model, or its files are damaged.
        """
        run.check_start()
        if run.start in RELEASED and not Path(run.start).is_dir():
            folder, config = EMBEDDED["tiny"], RELEASED[run.start].config
            image = load_config(folder).mllm["image_token_id"]
            config = replace(config, mllm=config.mllm | {"image_token_id": image})
        else:
            folder = find_model(run.start)
            config = open_checkpoint(folder).config if has_weights(folder) else load_config(folder)
        return cls(config, load_tokenizer(folder))

    def outline(self, run: SupervisedRun) -> tuple[Sa2VA, Processor]:
        """Build the model on the meta device, changed as the run asks, and its processor."""
        return run.prepare(build_empty(self.config), Processor(self.config, copy.deepcopy(self.tokenizer)))


def _plan_stage(run: SupervisedRun, config: SupervisedConfig, device: torch.device, num_processes: int) -> StagePlan:
    start = StartModel.of(run)
    data = SupervisedData(config, start.outline(run)[1])
    config = data.config
    loads = _read_loads(data, config, num_processes)
    largest = max(loads, key=lambda load: sum(load.lengths))
    memory, steps, parts = {}, {}, ()
    for name, variant in _variants(config).items():
        key = (variant.halves_frozen, variant.new_tokens)
        if key not in steps:
            model = _choose(*start.outline(run), variant, device)
            parts = parts or count_parts(model)
            steps[key] = measure_step(model, variant, largest, device)
        memory[name] = steps[key].plan(variant, num_processes)
    total = min(config.steps * config.batch_size, ITEMS_COUNTED)
    mixture = data.mixture
    drawn = Counter(mixture.mixture.locate(index)[0] for index in range(total))
    counts = {drawn_name(share): drawn[index] for index, share in enumerate(mixture.shares)}
    precision = "bfloat16 autocast" if memory[AS_CONFIGURED].in_bfloat16 else "float32"
    return StagePlan(
        name=config.name,
        steps=config.steps,
        samples=config.batch_size,
        accumulate=config.accumulate,
        processes=num_processes,
        parts=parts,
        load=_summarize(loads),
        precision=precision,
        memory=memory,
        mixture=mixture.rows(counts),
    )


def _choose(model: Sa2VA, processor: Processor, config: SupervisedConfig, device: torch.device) -> Sa2VA:
    """Choose the trained parts of a model on the meta device and apply its memory savers, in place."""
    with torch.device("meta"):
        choose_trained(model, config, new_token_ids(processor))
    save_memory(model, config, device)
    return model


def _variants(config: SupervisedConfig) -> dict[str, SupervisedConfig]:
    """Return the config, and the config with each memory saver that it does not use, and with all of them."""
    savers: dict[str, Any] = {"gradient_checkpointing": True, "halves_frozen": True}
    if config.lora_rank and config.new_tokens == "all":
        savers["new_tokens"] = "rows"
    unused = {name: value for name, value in savers.items() if getattr(config, name) != value}
    found = {AS_CONFIGURED: config}
    for name, value in unused.items():
        found[f"{name}={str(value).lower()}"] = replace(config, **{name: value})
    if len(unused) > 1:
        found[ALL_SAVERS] = replace(config, **unused)
    return found


def count_parts(model: Sa2VA) -> tuple[PartSize, ...]:
    """Count the trained and frozen parameters of each part; ties count once."""
    seen: set[int] = set()
    found = []
    parts = find_parts(model)
    order = ["embeddings", *(name for name in parts if name != "embeddings")]  # they lie within the text model
    for name in [*order, "rest of SAM 2"]:
        parameters = [p for module in parts.get(name, [model]) for p in module.parameters() if id(p) not in seen]
        own = {id(parameter): parameter for parameter in parameters}
        seen |= own.keys()
        trained = sum(p.numel() for p in own.values() if p.requires_grad)
        found.append(PartSize(name, trained, sum(p.numel() for p in own.values()) - trained))
    return tuple(found)


def _read_loads(data: SupervisedData, config: SupervisedConfig, num_processes: int) -> list[Load]:
    """Read batches of one process from steps all over the stage."""
    each = max(1, config.batch_size // (num_processes * config.accumulate))
    number = max(1, min(config.steps, SAMPLES_READ // each))
    loads = []
    for step in np.linspace(0, config.steps - 1, number).astype(int).tolist():
        sampler = StepSampler(data, config, range(step, step + 1), num_processes=num_processes)
        for keys in islice(sampler, 1):
            loads.append(Load.of(data.collate([data[key] for key in keys])))
    return loads


def _summarize(loads: Sequence[Load]) -> StepLoad:
    def mean(values: Sequence[int]) -> float:
        return float(np.mean(values))

    tokens = [sum(load.lengths) for load in loads]
    return StepLoad(
        samples=len(loads[0].lengths),
        tokens=mean(tokens),
        most_tokens=max(tokens),
        visual_tokens=mean([load.visual for load in loads]),
        frames=mean([load.frames for load in loads]),
        masks=mean([load.masks for load in loads]),
    )
