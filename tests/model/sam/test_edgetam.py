"""Compare EdgeTAM behind our tracker with the library's session."""

import copy
from pathlib import Path

import pytest
import torch
from support.small_model import build_model
from support.stock_sam2 import SIDE, WIDTH, balance, build_native, draw_clip, draw_masks
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession

from sa2va.checkpoints.original_sam2 import load_original_sam2
from sa2va.model.config import Sa2VAConfig
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.catalog import build_sam2
from sa2va.model.sam.edgetam import EdgeTam
from sa2va.model.sam.tracker import STOCK, Tracker
from sa2va.model.seg_design import one_frame_rows

NUM_FRAMES, KEYFRAMES = 12, (0, 5, 11)
GRID = SIDE // 16


def build_edgetam() -> EdgeTam:
    """Build a very small EdgeTAM with random weights, and SAM 2's image encoder instead of the one that needs timm."""
    sam2 = copy.deepcopy(build_model()[0].config.sam2)
    for part, key in [("vision_config", "fpn_hidden_size"), ("prompt_encoder_config", "hidden_size")]:
        sam2[part][key] = WIDTH
    config = {
        "vision_config": sam2["vision_config"],
        "prompt_encoder_config": sam2["prompt_encoder_config"],
        "mask_decoder_config": sam2["mask_decoder_config"] | {"hidden_size": WIDTH},
        "image_size": SIDE,
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_mlp_hidden_size": 64,
        "memory_attention_rope_feat_sizes": [GRID, GRID],
        "memory_attention_rope_k_sizes": [2, 2],
        "memory_encoder_hidden_size": WIDTH,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": 64,
        "perceiver_resampler_num_latents": 5,
        "perceiver_resampler_num_latents_2d": 4,
    }
    torch.manual_seed(1)
    edgetam = EdgeTam(config).eval()
    with torch.no_grad():
        for name, parameter in edgetam.named_parameters():
            scale = 0.1 if "memory" in name or "pointer" in name or "temporal" in name else 0.05
            parameter.add_(torch.randn_like(parameter) * scale)
    return edgetam


@torch.no_grad()
def propagate(edgetam: EdgeTam, pixels: torch.Tensor, masks: dict[int, torch.Tensor], row: int) -> dict:
    native = build_native(edgetam)
    session = EdgeTamVideoInferenceSession(video=pixels, video_height=SIDE, video_width=SIDE, dtype=torch.float32)
    for frame, mask in masks.items():
        session.add_mask_inputs(session.obj_id_to_idx(1), frame, mask[row][None, None].float())
        session.obj_with_new_inputs = [1]
        native(session, frame_idx=frame)
    found = native.propagate_in_video_iterator(session, start_frame_idx=0)
    return {out.frame_idx: (out.pred_masks[:, 0].clone(), out.object_score_logits.reshape(1)) for out in found}


@torch.no_grad()
def test_edgetam_equals_the_library() -> None:
    edgetam, pixels, masks = build_edgetam(), draw_clip(NUM_FRAMES), draw_masks(2, *KEYFRAMES)
    first = propagate(edgetam, pixels, masks, 0)
    balance(edgetam, {frame: found for frame, found in first.items() if frame not in KEYFRAMES})
    tracker, found = Tracker(edgetam, STOCK, num_frames=NUM_FRAMES), {}
    for frame, given in masks.items():
        features = edgetam.encode_frames(pixels[frame : frame + 1])
        found[frame] = edgetam.take_masks(features, given)
        tracker.prompt(frame, features, found[frame], given=given)
    for frame in range(NUM_FRAMES):
        if frame not in masks:
            found[frame] = tracker.step(frame, edgetam.encode_frames(pixels[frame : frame + 1]))
    present = []
    for row in range(2):
        for frame, (logits, presence) in propagate(edgetam, pixels, masks, row).items():
            assert torch.allclose(found[frame].mask_logits[row], logits[0], atol=1e-3), (row, frame)
            assert found[frame].presence_logits[row].item() == pytest.approx(presence.item(), abs=1e-3)
            present.append(presence.item() > 0)
    assert 0.2 < sum(present) / len(present) < 0.95
    memory = edgetam.encode_memory(edgetam.encode_frames(pixels[:2]).embeds, found[0])
    assert memory.features.shape == (5 + 4, 2, 64)  # tokens for the whole picture, and for places


def test_a_published_folder_is_loaded(tmp_path: Path) -> None:
    edgetam = build_edgetam()
    edgetam.native.save_pretrained(tmp_path)
    loaded = load_original_sam2(tmp_path, torch.device("cpu"), torch.float32)
    assert isinstance(loaded, EdgeTam)
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in edgetam.state_dict().items())


def test_a_model_may_draw_with_edgetam() -> None:
    config = build_model()[0].config
    edgetam = build_edgetam().native.config.to_dict()
    model = Sa2VA(Sa2VAConfig.from_dict(config.to_dict() | {"sam2": edgetam})).eval()
    assert isinstance(model.sam2, EdgeTam)
    with torch.no_grad():
        features = model.sam2.encode_frames(draw_clip(1))
        output = model.decode_masks(
            torch.randn(2, model.mllm.width), features, one_frame_rows(torch.zeros(2, dtype=torch.long))
        )
    assert output.candidates.shape == (2, 3, SIDE // 4, SIDE // 4)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="model_type 'sam9' of sam2 is unknown; use one of sam2_video"):
        build_sam2({"model_type": "sam9"})
