"""Check the traps of the released training that concern no single part; docs/training_traps.md lists all of them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.small_families import OFFICIAL, build_family
from support.small_model import build_model, draw_sample

from sa2va.model.losses import LossConfig
from sa2va.model.processor import Processor
from sa2va.types import Sample, Turn

TALK = Turn(question="Is it small ?", answer="It is.")


@pytest.mark.parametrize("num_frames", [1, 3])
@pytest.mark.parametrize("kind", OFFICIAL)
def test_the_prompt_of_training_is_that_of_prediction_token_by_token_and_pixel_by_pixel(
    kind: str, num_frames: int
) -> None:
    """T15, T16, T18, T20: resolution, newlines between frames, system turn, wording and template are the same."""
    model, plain = build_family(kind)
    processor = Processor(replace(model.config, system="Be brief."), plain.tokenizer)
    sample = draw_sample(3, num_frames=num_frames)
    batch = processor([sample])
    prompts = processor.prompts([(sample.turns[0], [sample.frames])])
    length = prompts.input_ids.shape[1]
    assert torch.equal(batch.input_ids[:, :length], prompts.input_ids)
    assert bool((batch.labels[:, :length] == -100).all()) and int(batch.labels[0, length]) != -100
    assert torch.equal(batch.pixel_values, prompts.pixel_values) and torch.equal(batch.grids, prompts.grids)


def test_pixels_of_sam_are_normalized_in_float32_wherever_they_are_read() -> None:
    """T17: in the released code, prediction normalizes in bfloat16."""
    _, processor = build_model()
    sample = draw_sample(0)
    assert processor([sample]).sam_pixel_values.dtype == torch.float32
    assert torch.equal(processor([sample]).sam_pixel_values, processor.sam_pixel_values(sample.frames))


@pytest.mark.parametrize("samples", [[TALK], [TALK, TALK, TALK]])
def test_a_batch_without_masks_trains_the_text_alone(samples: list[Turn]) -> None:
    """T11: no blank picture of a fixed batch size runs through SAM 2, and no weight gets a gradient of 0."""
    model, processor = build_model(seed=1)
    batch = processor([Sample(turns=(turn,)) for turn in samples])
    terms = model(batch, LossConfig(num_points=50))
    assert set(terms) == {"lm"} and batch.parts == frozenset()
    terms["lm"].total.backward()
    assert all(p.grad is None for part in (model.sam2, model.projector) for p in part.parameters())
    assert all(p.grad is None for p in model.mllm.vision_tower.parameters())


def test_a_picture_whose_normalized_pixels_are_zero_keeps_its_tokens() -> None:
    """T10: the released code takes it for the place of no picture and drops its visual tokens."""
    model, processor = build_model()
    picture = replace(draw_sample(0), turns=(TALK,))
    batch = processor([picture, Sample(turns=(TALK,)), picture])
    blank = replace(batch, pixel_values=torch.zeros_like(batch.pixel_values))
    with torch.no_grad():
        assert torch.isfinite(model(blank)["lm"].total)
        with pytest.raises(ValueError, match="32 image tokens in the text, 31 visual tokens"):
            model(replace(blank, visual_index=blank.visual_index[:-1]))


def test_a_clip_of_one_frame_is_a_picture() -> None:
    """T9: a clip of one frame has as many tokens as it has places for them, in every family."""
    for kind in ("qwen2_5_vl", "qwen3_vl", "internvl_qwen2"):
        model, processor = build_family(kind)
        batch = processor([draw_sample(1, num_frames=1)], mask_side=32)
        with torch.no_grad():
            assert torch.isfinite(model(batch, LossConfig(num_points=50))["bce"].total), kind


def test_losses_are_those_of_the_released_code_to_its_smoothing() -> None:
    """The released sums are divided by their count + 1e-4; the mean of ours differs by less than a millionth of it."""
    from sa2va.model.losses import point_losses

    config, seeds = LossConfig(), torch.arange(3)
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(3, 64, 64)).astype(np.float32))
    targets = torch.from_numpy((rng.random((3, 64, 64)) < 0.3).astype(np.float32))
    bce, dice = point_losses(logits, targets, config, seeds)
    released_bce = (bce * config.num_points).sum() / (3 * config.num_points + 1e-4)
    torch.testing.assert_close(bce.mean(), released_bce, rtol=1e-6, atol=0)
    torch.testing.assert_close(dice.mean(), dice.sum() / (3 + 1e-4), rtol=1e-4, atol=0)
    assert (config.num_points, int(config.num_points * config.oversample)) == (112**2, 37_632)
    assert int(config.num_points * config.uncertain_share) == 9_408


def test_every_test_that_the_list_of_traps_names_exists() -> None:
    root = Path(__file__).parents[2]
    listed = re.findall(r"`((?:\w+/)*test_\w+)(\.\.\.)?(\.py)?`", (root / "docs" / "training_traps.md").read_text())
    files = {path.relative_to(root / "tests").as_posix(): path for path in (root / "tests").rglob("test_*.py")}
    tests = re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in files.values()), re.MULTILINE)
    assert len(listed) > 40
    for name, is_cut, is_file in listed:
        whole = [f"{name}.py"] if is_file else [name]
        assert any(test == whole[0] or (is_cut and test.startswith(name)) for test in (files if is_file else tests)), (
            name
        )
