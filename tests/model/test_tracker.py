"""Check the tracker against Transformers' own session, and a stream against a whole clip."""

import numpy as np
import pytest
import torch
from small_model import draw_sample
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from sa2va.model.predictor import Predictor
from sa2va.model.processor import Processor
from sa2va.model.results import Options, Request
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam2 import MaskOutput
from sa2va.model.session import TrackSession
from sa2va.model.tracker import Tracker

Small = tuple[Sa2VA, Processor]
NUM_FRAMES, NUM_PROMPTED = 10, 2


def frames_of(number: int) -> np.ndarray:
    return np.concatenate([draw_sample(seed).frames for seed in range(number)])


@torch.no_grad()
def native_track(model: Sa2VA, pixels: torch.Tensor, prompts: torch.Tensor) -> list[MaskOutput]:
    """Drive one object through the library's unbounded session; only the decoder call is ours."""
    native = model.sam2.native
    session = Sam2VideoInferenceSession(
        video=pixels, video_height=64, video_width=64, dtype=torch.float32, max_vision_features_cache_size=NUM_FRAMES
    )
    index, outputs = session.obj_id_to_idx(1), []
    for t in range(len(pixels)):
        features, positions = native._prepare_vision_features(session, t, 1)
        prompted = t < NUM_PROMPTED
        conditioned = native._prepare_memory_conditioned_features(
            session, t, index, prompted, features[-1], positions[-1], num_total_frames=len(pixels)
        )
        high = [
            x.permute(1, 2, 0).view(1, -1, *size)
            for x, size in zip(features[:-1], native.backbone_feature_sizes[:-1], strict=True)
        ]
        sparse = model.sam2.language_prompt(prompts if prompted else None, 1)
        output = model.sam2.decode(conditioned, (high[0], high[1]), sparse)
        memory, memory_positions = native._encode_new_memory(
            features[-1], model.sam2.upscale(output.mask_logits)[:, None], output.presence_logits[:, None], False
        )
        stored = {
            "pred_masks": output.mask_logits[:, None],
            "object_pointer": output.pointers,
            "object_score_logits": output.presence_logits[:, None],
            "maskmem_features": memory,
            "maskmem_pos_enc": memory_positions,
        }
        session.store_output(index, t, output_value=stored, is_conditioning_frame=prompted)
        outputs.append(output)
    return outputs


@torch.no_grad()
def our_track(model: Sa2VA, pixels: torch.Tensor, prompts: torch.Tensor) -> list[MaskOutput]:
    """Track N objects at once with our bounded memory."""
    sam2, tracker, outputs = model.sam2, Tracker(model.sam2), []
    for t in range(len(pixels)):
        features = sam2.encode_frames(pixels[t : t + 1])
        if t < NUM_PROMPTED:
            n = len(prompts)
            embeds = sam2.without_memory(features.embeds).expand(n, -1, -1, -1)
            high = features.high_res
            high = (high[0].expand(n, -1, -1, -1), high[1].expand(n, -1, -1, -1))
            output = sam2.decode(embeds, high, sam2.language_prompt(prompts, n))
            tracker.prompt(t, features, output)
        else:
            output = tracker.step(t, features)
        outputs.append(output)
    return outputs


def test_tracking_equals_the_native_session(small: Small) -> None:
    model, processor = small
    pixels = processor.sam_pixel_values(frames_of(NUM_FRAMES))
    prompts = torch.randn(3, model.sam2.width, generator=torch.Generator().manual_seed(0))
    ours = our_track(model, pixels, prompts)
    for row in range(3):
        native = native_track(model, pixels, prompts[row : row + 1])
        for t in range(NUM_FRAMES):
            assert torch.allclose(ours[t].candidates[row], native[t].candidates[0], atol=1e-5), (row, t)
            assert torch.allclose(ours[t].presence_logits[row], native[t].presence_logits[0], atol=1e-5), (row, t)


def test_memory_is_bounded(small: Small) -> None:
    model, processor = small
    tracker, features = Tracker(model.sam2), model.sam2.encode_frames(processor.sam_pixel_values(frames_of(1)))
    with torch.no_grad():
        states = torch.randn(2, model.mllm.width)
        output = model.decode_masks(states, features, torch.zeros(2, 1, dtype=torch.long))
        tracker.prompt(0, features, output)
        for t in range(1, 24):
            tracker.step(t, features)
    assert len(tracker._recent) == 6
    assert len(tracker._pointers) == 15


def test_nothing_prompted_is_refused(small: Small) -> None:
    model, processor = small
    with pytest.raises(ValueError, match="no frame has been prompted"):
        Tracker(model.sam2).step(0, model.sam2.encode_frames(processor.sam_pixel_values(frames_of(1))))


def test_a_stream_equals_the_whole_clip(small: Small, predictor: Predictor) -> None:
    clip = frames_of(7)
    whole = predictor.probe_batch([Request(clip, "the red square")], Options(num_keyframes=2))[0]
    model, processor = small
    states = torch.randn(2, model.mllm.width)
    from sa2va.media import open_media

    def session(source: object) -> TrackSession:
        keyframes = ([0, 1], clip[:2])
        return TrackSession(model, processor, open_media(source), states, keyframes, ("", [None, None]), Options())

    at_once, streamed = list(session(clip)), list(session(iter(clip)))
    assert [r.index for r in streamed] == list(range(7))
    for a, b in zip(at_once, streamed, strict=True):
        for one, other in zip(a.objects, b.objects, strict=True):
            assert np.array_equal(one.mask, other.mask)
            assert one.presence == other.presence
    assert whole.masks.shape == (1, 7, 64, 64)
