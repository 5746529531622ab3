"""Check the temporal encoder: what it finds, what it leaves alone, and that it is part of the one path of a prompt."""

from dataclasses import replace

import pytest
import torch
from support.small_families import build_family
from support.small_model import build_model, draw_sample

from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.temporal import TemporalConfig, TemporalEncoder
from sa2va.types import Sample, Turn

CONFIG = TemporalConfig(num_heads=2, tokens_per_frame=16, num_frames=4)


def build_encoder(seed: int = 0) -> TemporalEncoder:
    torch.manual_seed(seed)
    encoder = TemporalEncoder(CONFIG, 12)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.eval()


def move_left(sample: Sample, step: int) -> Sample:
    """Shift each frame of a clip to the left by `step` px more than the frame before."""
    frames = sample.frames.copy()
    for number, frame in enumerate(frames):
        frames[number] = torch.from_numpy(frame).roll(-step * number, dims=1).numpy()
    return Sample.of_arrays(frames=frames, turns=sample.turns, masks=sample.masks)


@torch.no_grad()
def test_displacement_of_a_distinctive_token() -> None:
    """One token, orthogonal to the others, moves by one cell per frame; its match is at its place in every frame."""
    torch.manual_seed(0)
    encoder = TemporalEncoder(replace(CONFIG, key_width=6), 12)
    encoder.sharpness.fill_(5.0)
    states = torch.zeros(1, 4, 16, 12)
    states[..., 0] = 1.0
    places = [(1, frame) for frame in range(4)]  # row, column
    for frame, (row, column) in enumerate(places):
        states[0, frame, row * 4 + column] = torch.eye(12)[1]
    shift = encoder.compare(states)[..., :2]  # (C, K, n, H, S, 2)
    for frame, (row, column) in enumerate(places):
        found = shift[0, frame, row * 4 + column]  # (H, S, 2)
        wanted = torch.tensor([[other - column, 0.0] for _, other in places]).expand_as(found)
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)


@torch.no_grad()
def test_clips_of_a_batch_are_encoded_alone_and_all_other_tokens_stay() -> None:
    encoder, tokens = build_encoder(), torch.randn(16 * 10, 12)
    clips = torch.tensor([[16, 4], [96, 3]])  # a picture, a clip of 4, a picture, a clip of 3, a picture
    encoded = encoder(tokens, clips)
    inside = torch.zeros(160, dtype=torch.bool)
    for first, number in clips.tolist():
        own = slice(first, first + number * 16)
        inside[own] = True
        alone = tokens[own] + encoder.encode(tokens[own].view(1, number, 16, 12)).view(-1, 12)
        torch.testing.assert_close(encoded[own], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(encoded[~inside], tokens[~inside])
    assert (encoded[inside] != tokens[inside]).any(1).all()


@pytest.mark.parametrize("num_frames", [2, 3, 5, 9])
@torch.no_grad()
def test_clips_of_other_lengths(num_frames: int) -> None:
    encoder, tokens = build_encoder(), torch.randn(1, num_frames, 16, 12)
    assert encoder.encode(tokens).isfinite().all()
    still = encoder.encode(tokens[:, :1].expand(-1, num_frames, -1, -1).contiguous())
    assert not torch.allclose(still, encoder.encode(tokens))


def with_heads(model: Sa2VA, processor: Processor, heads: int) -> tuple[Sa2VA, Processor]:
    """Return the model with another temporal encoder, untrained, and all its other weights."""
    config = replace(model.config, temporal_heads=heads)
    other = Sa2VA(config).eval()
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("mllm.temporal.")}
    left = other.load_state_dict(state, strict=False)
    assert bool(left.missing_keys) == bool(heads) and not left.unexpected_keys
    return other, Processor(config, processor.tokenizer)


def embeds(model: Sa2VA, processor: Processor, samples) -> torch.Tensor:
    return model.encode(processor(samples)).embeds


@torch.no_grad()
def test_an_untrained_encoder_changes_nothing() -> None:
    clip = [draw_sample(1, num_frames=4), draw_sample(0)]
    plain = with_heads(*build_model(), 0)
    assert torch.equal(embeds(*plain, clip), embeds(*with_heads(*plain, 3), clip))


@torch.no_grad()
def test_pictures_stay_and_clips_change() -> None:
    model, processor = build_model()
    assert model.mllm.temporal is not None
    plain = with_heads(model, processor, 0)
    one, two = draw_sample(0), draw_sample(1)
    pair = Sample(media=(*one.media, *two.media), turns=(Turn(question="Is it red ?", answer="It is."),))
    assert torch.equal(embeds(*plain, [one, two, pair]), embeds(model, processor, [one, two, pair]))
    clip = draw_sample(1, num_frames=4)
    ours, theirs = embeds(model, processor, [clip]), embeds(*plain, [clip])
    changed = (ours != theirs).any(-1)[0]
    assert torch.equal(changed, processor([clip]).input_ids[0] == model.mllm.image_token_id)
    left, right = (embeds(model, processor, [move_left(clip, step)]) for step in (8, -8))
    assert not torch.allclose(left, right)


@torch.no_grad()
def test_prompts_and_batches_name_the_same_clips() -> None:
    model, processor = build_model()
    clip, picture = draw_sample(1, num_frames=4), draw_sample(0)
    size = model.config.tokens_per_tile
    batch = processor([picture, clip, clip], [[0], [0, 1, 2, 3], [0, 2]])
    assert batch.clips.tolist() == [[size, 4], [5 * size, 2]] and "clips" in batch.parts
    assert processor([picture]).clips.shape == (0, 2) and "clips" not in processor([picture]).parts
    asked = [(one.turns[0], [one.frames]) for one in (picture, clip)]
    together = model.encode(processor.prompts(asked))
    for row, one in enumerate(asked):
        alone = model.encode(processor.prompts([one])).embeds[0]
        torch.testing.assert_close(together.embeds[row, -len(alone) :], alone, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_encoder_with_and_without_clips() -> None:
    model, processor = build_model()
    assert model.mllm.temporal is not None
    for batch in (processor([draw_sample(1, num_frames=4)]), processor([draw_sample(0)]).with_parts({"clips"})):
        model.zero_grad()
        model(batch)["lm"].total.backward()
        grads = [parameter.grad for parameter in model.mllm.temporal.parameters()]
        assert all(grad is not None for grad in grads)
        assert any(grad.any() for grad in grads if grad is not None) == bool(len(batch.clips))


def test_bad_configurations_are_refused() -> None:
    model, _ = build_model()
    with pytest.raises(ValueError, match="temporal_heads is 65"):
        replace(model.config, temporal_heads=65)
    qwen, _ = build_family("qwen3_vl")
    with pytest.raises(ValueError, match="temporal_heads is 2; expected 0"):
        Sa2VA(replace(qwen.config, temporal_heads=2))
