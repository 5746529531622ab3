"""A stage of training with rewards, on a very small random Sa2VA that says little but mask and end tokens."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from support.small_model import build_model, draw_sample

from sa2va.data import catalog
from sa2va.data.base import Generated
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.mixture import DatasetShare
from sa2va.training.policy import PolicyConfig
from sa2va.training.reinforce import ReinforceConfig, ReinforceStage
from sa2va.training.rollouts import SamplingConfig
from sa2va.training.stage import RunContext
from sa2va.types import Sample, Turn

QUESTION = Turn(question="Is it small ?", answer="It is .")
SAMPLING = SamplingConfig(answers=3, max_new_tokens=6, temperature=1.5)


def draw_asked(index: int, num_frames: int = 1) -> Sample:
    """Draw a sample with a question beside its request, and an answer without language loss."""
    sample = draw_sample(index, num_frames)
    return replace(sample, turns=(*sample.turns, QUESTION, replace(QUESTION, supervised=False)))


def register() -> None:
    """Name the datasets."""
    catalog.DATASETS["asked"] = partial(Generated, draw_asked)
    catalog.DATASETS["asked_clips"] = partial(Generated, partial(draw_asked, num_frames=3))


def describe(**more: object) -> ReinforceConfig:
    config = ReinforceConfig(
        name="rewards", steps=3, batch_size=2, lr=1e-3, warmup_steps=1, save_every=1, log_every=1, autocast=False,
        num_workers=0, datasets=(DatasetShare(name="asked", weight=1),), lora_rank=4, sampling=SAMPLING,
        policy=PolicyConfig(least_spread=1e-4), prompts_per_sample=1, group_by_length=False,
    )  # fmt: skip
    return replace(config, **more)


def build_leaning() -> tuple[Sa2VA, Processor]:
    """Build a model that mostly says mask and end tokens, so that rewards differ."""
    model, processor = build_model(seed=1)
    likely = [processor.seg_id, *processor.end_ids]
    head = model.mllm.native.get_output_embeddings().weight
    with torch.no_grad():
        factors = torch.full((len(head), 1), 0.1)
        factors[likely] = 8.0
        head.mul_(factors)
    return model, processor


def build_rewards(folder: Path | None = None, **more: object) -> ReinforceStage:
    """Build the stage on that model."""
    register()
    model, processor = build_leaning()
    context = RunContext(model=model, processor=processor, seed=0, folder=folder or Path(), device=torch.device("cpu"))
    return describe(**more).build(context)
