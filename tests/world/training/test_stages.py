"""Check the stages of the embedded model: reproducible batches, finite losses, gradients only of trained parameters."""

import dataclasses
from pathlib import Path

import pytest
import torch
from support.loss_terms import total_loss
from support.small_model import build_model

from sa2va.model.following import find_objects
from sa2va.model.sam.memory_attention import Memories
from sa2va.model.sam.sam2 import MaskOutput
from sa2va.training.optim import build_optimizer, trained_parameters
from sa2va.training.stage import RunContext, Stage, StageConfig
from sa2va.world.training import recipes
from sa2va.world.training.cotrain import CotrainConfig
from sa2va.world.training.encoders import SamVisionConfig, VisionConfig
from sa2va.world.training.mask_decoder import MaskDecoderConfig, ObjectCode
from sa2va.world.training.memory import MemoryConfig
from sa2va.world.training.packed import PackedConfig
from sa2va.world.training.scene_batch import rank_objects
from sa2va.world.training.task_mixture import GROUPS, LANGUAGE_SHARES, TaskShares
from sa2va.world.training.tiny_model import init_memory_attention

SHORT = {"steps": 100, "batch_size": 2, "lr": 1e-3}
STAGES: dict[str, StageConfig] = {
    config.name: config
    for config in (
        VisionConfig(name="vision", **SHORT),
        SamVisionConfig(name="sam_vision", **SHORT),
        MaskDecoderConfig(name="masks", **SHORT),
        MemoryConfig(name="tracking", **SHORT),
        CotrainConfig(name="language", shares=LANGUAGE_SHARES, decodes_masks=False, alignment_share=0.0, **SHORT),
        CotrainConfig(name="cotrain", **SHORT),
        PackedConfig(name="packed", branch_tokens=300, least_branches=2, **SHORT),
    )
}
RESTING = {  # parts that a stage must not change
    "vision": "language_model",
    "masks": "vision_encoder",
    "tracking": "mask_decoder",
    "language": "vision_tower",
    "cotrain": "vision_tower",
}


def make_stage(name: str) -> Stage:
    model, processor = build_model(seed=2)
    context = RunContext(
        model=model,
        processor=processor,
        seed=0,
        folder=Path("unused"),
        device=torch.device("cpu"),
        kept={"object_code": ObjectCode(model.sam2.width)},
    )
    return STAGES[name].build(context)


def make_batch(stage: Stage, step: int):
    return stage.data.collate([stage.data[key] for key in stage.data.keys(step)])


def tensors_of(batch: object) -> list[torch.Tensor]:
    """Return all tensors of a batch, in order."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    if dataclasses.is_dataclass(batch):
        batch = tuple(getattr(batch, field.name) for field in dataclasses.fields(batch))
    return [tensor for value in batch for tensor in tensors_of(value)] if isinstance(batch, tuple) else []


@pytest.mark.parametrize("name", STAGES)
def test_a_batch_is_a_pure_function_of_its_step(name: str) -> None:
    stage = make_stage(name)
    one, again, other = (tensors_of(make_batch(stage, step)) for step in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert len(one) != len(other) or any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", list(STAGES)[:-1])  # packed ones decode no masks in most steps, see test_packed.py
def test_a_step_trains_what_it_should(name: str) -> None:
    stage = make_stage(name)
    trained = trained_parameters(stage.module, build_optimizer(stage.module, stage.parameters(), stage.config))
    assert trained
    assert not [n for n in trained if name in RESTING and RESTING[name] in n]
    seen: set[str] = set()
    for step in range(3):
        terms = stage.module(make_batch(stage, step))
        assert all(torch.isfinite(term.total) for term in terms.values()), (name, terms)
        total_loss(terms).backward()
        seen |= {n for n, p in trained.items() if p.grad is not None and bool(p.grad.any())}
    assert len(seen) > len(trained) // 2, sorted(set(trained) - seen)[:9]
    resting = [n for n, p in stage.module.named_parameters() if n not in trained and p.requires_grad]
    assert not resting, resting[:9]  # frozen parameters get no gradient


def test_shares_of_the_tasks_are_complete() -> None:
    with pytest.raises(ValueError, match=r"sum to 0\.9; expected"):
        TaskShares(region=0.1, gcg=0.1, refseg=0.1, text=0.2, video_refseg=0.2, video_text=0.2)
    assert {field.name for field in dataclasses.fields(TaskShares)} == set(GROUPS)
    assert all(sum(group.values()) == pytest.approx(1.0) for group in GROUPS.values())


def test_each_process_gets_its_share_of_a_step() -> None:
    """The terms of two halves of a step add up to those of the whole: sums and counts."""
    stage = make_stage("cotrain")
    pictures = [step for step in range(20) if stage.data.plan(step)[0].group in ("refseg", "region")]
    for step in pictures[:3]:
        keys = stage.data.keys(step)
        whole = stage.module(make_batch(stage, step))
        halves = [stage.module(stage.data.collate([stage.data[key] for key in keys[rank::2]])) for rank in range(2)]
        assert whole["lm"].count == sum(half["lm"].count for half in halves)
        for name, term in whole.items():
            torch.testing.assert_close(
                term.total, sum(half[name].total for half in halves), rtol=1e-4, atol=1e-4, msg=f"{step} {name}"
            )


def tracked_clip(stage: Stage):
    clips = (make_batch(stage, step) for step in range(60))
    return next(clip for clip in clips if clip.batch.tracks is not None and len(clip.batch.tracks.key_rows) > 1)


def test_clips_are_tracked_beyond_their_key_frames() -> None:
    stage = make_stage("cotrain")
    clip = tracked_clip(stage)
    tracks = clip.batch.tracks
    assert tracks.keyframes == (0, 5, 10, 15)
    assert not set(tracks.frames) & set(tracks.keyframes)
    stage.module.losses = dataclasses.replace(stage.module.losses, follow_iou=-1.0)  # untrained, nothing is found
    total_loss(stage.module(clip)).backward()
    memory = stage.module.model.sam2.native.memory_encoder
    assert any(p.grad is not None and p.grad.any() for p in memory.parameters())


def test_only_objects_that_were_found_are_followed() -> None:
    clip = tracked_clip(make_stage("cotrain"))
    tracks, truth = clip.batch.tracks, clip.batch.seg_targets
    masks = torch.where(truth, 5.0, -5.0)[:, None]
    surest = tracks.key_rows[:, 1]
    masks[surest[0]] *= -1  # wrong on the key frame with the highest score
    scores = torch.full((len(truth), 1), 0.3)
    scores[surest] = 0.9
    output = MaskOutput(masks, scores, torch.ones(len(truth)), torch.zeros(len(truth), 1))
    there = truth[surest].flatten(1).any(1)
    there[0] = False
    found = find_objects(tracks, output, truth, 0.5)
    assert torch.equal(found.key_rows, tracks.key_rows[there]) and torch.equal(found.targets, tracks.targets[there])


@pytest.mark.parametrize("recipe", [recipes.tiny, recipes.tiny_more, recipes.tiny_gpu])
def test_recipes_name_each_stage_once_and_calibrate(recipe) -> None:
    config = recipe()
    assert len({stage.name for stage in config.stages}) == len(config.stages)
    assert config.calibration == 600
    with pytest.raises(ValueError, match="calibration on 9 requests; use 0 or at least 50"):
        dataclasses.replace(config, calibration=9)


def test_a_place_starts_out_reading_what_was_there_before() -> None:
    """A change at one position of a memory changes the features there far more than at most other positions."""
    torch.manual_seed(0)
    model, _ = build_model(seed=2)
    sam2, grid = model.sam2, model.sam2.size // 16
    embeds = torch.randn(1, sam2.width, grid, grid)
    memory = torch.randn(1, grid * grid, 64)

    def read(tokens: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return sam2.attend(embeds, [Memories(tokens, torch.zeros_like(tokens), 1, 0)])

    def focus() -> float:
        """Return the change at a changed position over the median of all positions, averaged over positions."""
        ratios = []
        for place in range(grid * grid):
            changed = memory.clone()
            changed[0, place] += 3 * torch.randn(64)
            differences = (read(changed) - read(memory)).norm(dim=1).flatten()
            ratios.append(float(differences[place] / differences.median()))
        return sum(ratios) / len(ratios)

    assert focus() < 1.5
    init_memory_attention(model, bias=2.0)
    assert focus() > 5


def test_objects_that_come_back_are_followed_first() -> None:
    masks = torch.zeros(3, 4, 2, 2, dtype=torch.bool)
    masks[0] = True  # static
    masks[1, :2, 0], masks[1, 2:, 1] = True, True  # moves
    masks[2, [0, 3]] = True  # is hidden for two frames
    assert rank_objects(masks).tolist() == [0, 1, 2]
