"""Check the stages of the embedded model: pure batches, finite losses, and gradients only where they belong."""

import dataclasses
from typing import Any

import pytest
import torch
from support.small_model import build_model

from sa2va.model.sam.sam2 import MaskOutput
from sa2va.training.optim import build_optimizer, trained_parameters
from sa2va.training.run import train
from sa2va.training.stage import StageConfig
from sa2va.world.training import cotrain
from sa2va.world.training.cotrain import Teachers
from sa2va.world.training.memory import FOLLOWED, SPANS
from sa2va.world.training.recipes import build_stage, tiny, tiny_gpu, tiny_more
from sa2va.world.training.scene_batch import rank_objects
from sa2va.world.training.task_mixture import BESIDE_PACKED, FIRST_SHARES, GROUPS, SHARES
from sa2va.world.training.tiny_model import init_memory_attention

STAGES = ("vision", "sam_vision", "masks", "tracking", "language", "cotrain", "packed")
RESTING = {  # what a stage must leave as it is
    "vision": "language_model",
    "masks": "vision_encoder",
    "tracking": "mask_decoder",
    "language": "vision_tower",
    "cotrain": "vision_tower",
}


def make_stage(name: str) -> Any:
    model, processor = build_model(seed=2)
    config = StageConfig(name=name, steps=100, batch_size=2, lr=1e-3)
    return build_stage(config, model, processor, Teachers(model))


def tensors_of(batch: object) -> list[torch.Tensor]:
    """All tensors of a batch, in order."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    if dataclasses.is_dataclass(batch):
        batch = tuple(getattr(batch, field.name) for field in dataclasses.fields(batch))
    return [tensor for value in batch for tensor in tensors_of(value)] if isinstance(batch, tuple) else []


@pytest.mark.parametrize("name", STAGES)
def test_a_batch_is_a_pure_function_of_its_step(name: str) -> None:
    stage = make_stage(name)
    one, again, other = (tensors_of(stage.batch(step)) for step in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", STAGES[:-1])  # packed ones draw nothing in most steps, see test_packed.py
def test_a_step_trains_what_it_should(name: str) -> None:
    stage = make_stage(name)
    optimizer = build_optimizer(stage.module(), stage.parameters(), stage.config)
    names = trained_parameters(stage.module(), optimizer)
    assert names
    assert not [n for n in names if name in RESTING and RESTING[name] in n]
    seen: set[str] = set()
    for step in range(3):
        losses = stage.losses(stage.batch(step))
        assert all(torch.isfinite(value) for value in losses.values()), (name, losses)
        losses["total"].backward()
        seen |= {n for n, p in names.items() if p.grad is not None and bool(p.grad.any())}
    assert len(seen) > len(names) // 2, sorted(set(names) - seen)[:9]


@pytest.mark.parametrize("shares", [FIRST_SHARES, SHARES, BESIDE_PACKED])
def test_shares_of_the_tasks_are_complete(shares: dict[str, float]) -> None:
    assert sum(shares.values()) == pytest.approx(1.0)
    assert set(shares) <= set(GROUPS)
    assert all(sum(group.values()) == pytest.approx(1.0) for group in GROUPS.values())


def test_clips_are_tracked_beyond_their_key_frames(monkeypatch) -> None:
    stage = make_stage("cotrain")
    batches = (stage.batch(step) for step in range(40))
    clip = next(b for b in batches if b.tracked and len(b.followed))
    assert clip.keyframes == (0, 5, 10, 15)
    assert not set(clip.tracked) & set(clip.keyframes)
    monkeypatch.setattr(cotrain, "FOUND_IOU", -1.0)  # untrained, nothing is found
    losses = stage.losses(clip)
    losses["total"].backward()
    memory = stage.module().model.sam2.native.memory_encoder
    assert any(p.grad is not None and p.grad.any() for p in memory.parameters())


def test_only_objects_that_were_found_are_followed() -> None:
    stage = make_stage("cotrain")
    clip = next(b for b in (stage.batch(step) for step in range(40)) if b.tracked and len(b.followed) > 1)
    number = len(clip.keyframes)
    truth = clip.batch.seg_targets.flatten(0, 1)
    size = len(truth)
    masks = torch.where(truth, 5.0, -5.0)[:, None]
    masks[int(clip.followed[0]) * number + 1] *= -1  # wrong, where it is surest
    scores = torch.full((size, 1), 0.3)
    scores[1::number] = 0.9
    output = MaskOutput(masks, scores, torch.ones(size), torch.zeros(size, 1))
    there = clip.batch.seg_targets[clip.followed, 1].flatten(1).any(1)
    there[0] = False
    assert stage._find(clip, output).tolist() == torch.nonzero(there)[:, 0].tolist()


@pytest.mark.parametrize("recipe", [tiny, tiny_more, tiny_gpu])
def test_recipes_name_known_stages_once(recipe: Any) -> None:
    config = recipe()
    assert {stage.name for stage in config.stages} <= set(STAGES)


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(ValueError, match="recipe 'huge' is unknown: use one of tiny"):
        train("huge")


def test_a_place_starts_out_reading_what_was_there_before() -> None:
    """Where one place of a memory changes, features change there far more than at most other places."""
    torch.manual_seed(0)
    model, _ = build_model(seed=2)
    sam2, grid = model.sam2, model.sam2.size // 16
    embeds = torch.randn(1, sam2.width, grid, grid)
    memory = torch.randn(grid * grid, 1, 64)

    def read(tokens: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return sam2.attend(embeds, tokens, torch.zeros_like(tokens), num_memories=1, num_pointer_tokens=0)

    def focus() -> float:
        """Change at the changed place, in medians over all places; averaged over places."""
        ratios = []
        for place in range(grid * grid):
            changed = memory.clone()
            changed[place] += 3 * torch.randn(64)
            differences = (read(changed) - read(memory)).norm(dim=1).flatten()
            ratios.append(float(differences[place] / differences.median()))
        return sum(ratios) / len(ratios)

    assert focus() < 1.5
    init_memory_attention(model, bias=2.0)
    assert focus() > 5


def test_objects_that_come_back_are_followed_first() -> None:
    masks = torch.zeros(3, 4, 2, 2, dtype=torch.bool)
    masks[0] = True  # rests
    masks[1, :2, 0], masks[1, 2:, 1] = True, True  # moves
    masks[2, [0, 3]] = True  # is hidden for two frames
    assert rank_objects(masks).tolist() == [0, 1, 2]


def test_clips_to_track_have_all_spans() -> None:
    stage = make_stage("tracking")
    shapes = {tuple(stage.batch(step).targets.shape[:2]) for step in range(12)}
    assert {frames + 1 for _, frames in shapes} == {frames for frames, _ in SPANS}
    assert all(objects * frames <= FOLLOWED for objects, frames in shapes)
