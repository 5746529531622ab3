"""Compare SAM 3's tracker behind ours with the library's session."""

from pathlib import Path

import pytest
import torch
from support.stock_sam2 import balance, draw_clip, draw_masks
from torch import Tensor
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoInferenceSession

from sa2va.checkpoints.original_sam2 import load_original_sam2
from sa2va.model.sam import memory_attention
from sa2va.model.sam.catalog import build_sam2
from sa2va.model.sam.sam3 import Sam3Tracker
from sa2va.model.sam.tracker import STOCK, Tracker

NUM_FRAMES, KEYFRAMES = 12, (0, 5, 11)
SIDE, PATCH, WIDTH = 56, 14, 128  # memory masks have 64 px


def build_sam3() -> Sam3Tracker:
    """Build a very small tracker with random weights."""
    vit = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": SIDE, "pretrain_image_size": SIDE, "patch_size": PATCH,
        "window_size": 2, "global_attn_indexes": [1],
    }  # fmt: skip
    config = {
        "model_type": "sam3_tracker_video",
        "vision_config": {"model_type": "sam3_vision_model", "backbone_config": vit, "fpn_hidden_size": WIDTH},
        "prompt_encoder_config": {"hidden_size": WIDTH, "patch_size": PATCH},
        "mask_decoder_config": {"hidden_size": WIDTH, "mlp_dim": 64, "iou_head_hidden_dim": 32},
        "image_size": SIDE,
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 64,
        "memory_encoder_hidden_size": WIDTH,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": 64,
    }
    torch.manual_seed(1)
    sam3 = build_sam2(config).eval()
    assert isinstance(sam3, Sam3Tracker)
    with torch.no_grad():
        for name, parameter in sam3.named_parameters():
            scale = 0.1 if "memory" in name or "pointer" in name or "temporal" in name else 0.05
            parameter.add_(torch.randn_like(parameter) * scale)
    return sam3


def draw_small(num_frames: int) -> Tensor:
    return draw_clip(num_frames)[..., :SIDE, :SIDE].contiguous()


@torch.no_grad()
def propagate(sam3: Sam3Tracker, pixels: Tensor, masks: dict[int, Tensor], row: int) -> dict:
    session = Sam3TrackerVideoInferenceSession(video=pixels, video_height=SIDE, video_width=SIDE, dtype=torch.float32)
    for frame, mask in masks.items():
        session.add_mask_inputs(session.obj_id_to_idx(1), frame, mask[row][None, None].float())
        session.obj_with_new_inputs = [1]
        sam3.native(session, frame_idx=frame)
    found = sam3.native.propagate_in_video_iterator(session, start_frame_idx=0)
    return {out.frame_idx: (out.pred_masks[:, 0].clone(), out.object_score_logits.reshape(1)) for out in found}


@torch.no_grad()
def test_it_equals_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    sam3, pixels = build_sam3(), draw_small(NUM_FRAMES)
    masks = {frame: mask[..., :SIDE, :SIDE] for frame, mask in draw_masks(2, *KEYFRAMES).items()}
    first = propagate(sam3, pixels, masks, 0)
    balance(sam3, {frame: found for frame, found in first.items() if frame not in KEYFRAMES})
    tracker, found = Tracker(sam3, STOCK, num_frames=NUM_FRAMES), {}
    for frame, given in masks.items():
        features = sam3.encode_frames(pixels[frame : frame + 1])
        found[frame] = sam3.take_masks(features, given)
        tracker.prompt(frame, features, found[frame], given=given)
    for frame in range(NUM_FRAMES):
        if frame not in masks:
            found[frame] = tracker.step(frame, sam3.encode_frames(pixels[frame : frame + 1]))
    assert memory_attention.can_read(sam3.native.memory_attention)
    for row in range(2):
        for frame, (logits, presence) in propagate(sam3, pixels, masks, row).items():
            assert torch.allclose(found[frame].mask_logits[row], logits[0], atol=1e-3), (row, frame)
            assert found[frame].presence_logits[row].item() == pytest.approx(presence.item(), abs=1e-3)
    memory = sam3.encode_memory(sam3.encode_frames(pixels[:2]).embeds, found[0])
    assert memory.features.shape == ((SIDE // PATCH) ** 2, 2, 64)


def test_a_folder_is_loaded(tmp_path: Path) -> None:
    sam3 = build_sam3()
    sam3.native.save_pretrained(tmp_path)
    loaded = load_original_sam2(tmp_path, torch.device("cpu"), torch.float32)
    assert isinstance(loaded, Sam3Tracker) and loaded.size == SIDE
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in sam3.state_dict().items())
