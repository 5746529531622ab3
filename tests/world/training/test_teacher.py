"""Check that a stage with a teacher measures how far its answers to pictures have moved, and can bring them back."""

import math
from pathlib import Path

import pytest
import torch
from support.small_model import build_model

from sa2va.training.stage import RunContext, Stage
from sa2va.world.training.auxiliary_heads import AuxiliaryConfig
from sa2va.world.training.packed import PackedConfig
from sa2va.world.training.teacher import KeptAnswers, kept_losses

AUXILIARY = AuxiliaryConfig(kept_words_weight=2.0, kept_prompts_weight=3.0)
CONFIG = PackedConfig(
    name="clips", steps=20, batch_size=2, lr=1e-3, branch_tokens=200, least_branches=2, ordinary_every=100,
    cycle=("refseg", "video_refseg"), auxiliary=AUXILIARY,
)  # fmt: skip


@pytest.fixture
def stage() -> Stage:
    model, processor = build_model(seed=2)
    context = RunContext(model=model, processor=processor, seed=0, folder=Path("unused"), device=torch.device("cpu"))
    return CONFIG.build(context)


def batch_of(stage: Stage, step: int):
    return stage.data.collate([stage.data[key] for key in stage.data.keys(step)])


def kept(terms) -> dict[str, float]:
    return {name: float(terms[name].mean.detach()) for name in ("kept_words", "kept_prompts")}


def test_before_the_first_step_nothing_has_moved(stage: Stage) -> None:
    terms = stage.module(batch_of(stage, 0))
    assert kept(terms) == pytest.approx({"kept_words": 0, "kept_prompts": 0}, abs=1e-6)
    assert (terms["kept_words"].weight, terms["kept_prompts"].weight) == (2.0, 3.0)
    assert terms["kept_words"].count > 20 and terms["kept_prompts"].count > 2


def test_clips_have_no_teacher(stage: Stage) -> None:
    batch = batch_of(stage, 1)
    assert len(batch.batch.clips)
    assert not {"kept_words", "kept_prompts"} & set(stage.module(batch))


@pytest.mark.parametrize("name", ["kept_words", "kept_prompts"])
def test_a_moved_model_is_brought_back(stage: Stage, name: str) -> None:
    module, batch = stage.module, batch_of(stage, 0)
    moving = {"kept_words": module.model.mllm.text_model.norm, "kept_prompts": module.model.projector}[name]
    with torch.no_grad():
        for parameter in moving.parameters():
            parameter.mul_(1.5)
    moved = kept(module(batch))[name]
    assert moved > 1e-3
    optimizer = torch.optim.Adam(moving.parameters(), lr=2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        module(batch)[name].mean.backward()
        optimizer.step()
    assert kept(module(batch))[name] < 0.3 * moved


def test_the_teacher_is_neither_saved_nor_trained(stage: Stage) -> None:
    module = stage.module
    assert not any(name.startswith("teacher") for name in module.state_dict())
    before = [parameter.clone() for parameter in module.teacher.mllm.parameters()]
    module(batch_of(stage, 0))["kept_prompts"].mean.backward()
    with torch.no_grad():
        for parameter in module.model.mllm.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(*pair) for pair in zip(before, module.teacher.mllm.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in module.teacher.mllm.parameters())


def test_losses_by_hand() -> None:
    kept_answers = KeptAnswers(
        answered=torch.ones(1, 1, dtype=torch.bool),
        log_chances=torch.tensor([[0.5, 0.5]]).log(),
        prompt_embeds=torch.tensor([[2.0, 0.0], [0.0, 2.0]]),
    )
    logits, prompts = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[2.0, 2.0], [0.0, 2.0]])
    terms = kept_losses(kept_answers, logits, prompts, words=1.0, prompts=1.0)
    assert float(terms["kept_words"].mean) == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    # Squares 4 of one of four values, mean square of the teacher's values 2: (2 + 0) / 2 rows / 2.
    assert float(terms["kept_prompts"].mean) == pytest.approx(0.5)


def test_a_batch_without_mask_tokens_has_no_distance() -> None:
    nothing = KeptAnswers(torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1), torch.zeros(0, 4))
    prompts = torch.zeros(0, 4, requires_grad=True)
    term = kept_losses(nothing, torch.zeros(1, 1), prompts, words=1.0, prompts=1.0)["kept_prompts"]
    term.mean.backward()
    assert (float(term.mean.detach()), term.count) == (0.0, 0.0)
