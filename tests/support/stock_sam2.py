"""Drive the library's own, unbounded SAM 2 session as a reference for ours."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from support.small_model import build_model, draw_sample
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from sa2va.model.sam.sam2 import Sam2

SIDE, WIDTH = 64, 128  # px and C of the small SAM 2
Given = Mapping[int, Mapping[int, Tensor]]  # object -> frame -> bool (S, S)
Tracked = dict[int, tuple[Tensor, Tensor]]  # frame -> mask logits (N, h, w), presence logits (N,)


def draw_clip(num_frames: int) -> Tensor:
    """Return frames that all differ, normalized: (T, 3, S, S)."""
    frames = np.concatenate([draw_sample(seed).frames for seed in range(num_frames)])
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 64 - 1


def draw_masks(num_objects: int, *keyframes: int) -> dict[int, Tensor]:
    """Return one box per object and key frame, bool (N, S, S) by frame."""
    masks = torch.zeros(len(keyframes), num_objects, SIDE, SIDE, dtype=torch.bool)
    for k in range(len(keyframes)):
        for n in range(num_objects):
            masks[k, n, 8 * n + 2 * k : 8 * n + 2 * k + 20, 5 * k : 5 * k + 16] = True
    return dict(zip(keyframes, masks, strict=True))


def build_sam2(version: str = "2.0", seed: int = 1) -> Sam2:
    """Build a very small SAM 2 with random weights, in which objects come and go."""
    newer = version == "2.1"
    config = copy.deepcopy(build_model()[0].config.sam2)
    # Twice as wide as a memory token: the library cannot handle pointers that need not be split.
    config["vision_config"]["fpn_hidden_size"] = WIDTH
    config["prompt_encoder_config"]["hidden_size"] = WIDTH
    config["mask_decoder_config"]["hidden_size"] = WIDTH
    config |= {
        "memory_attention_hidden_size": WIDTH,
        "memory_encoder_hidden_size": WIDTH,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_embed_dim": WIDTH,
        "enable_occlusion_spatial_embedding": newer,
        "enable_temporal_pos_encoding_for_object_pointers": newer,
    }
    torch.manual_seed(seed)
    sam2 = Sam2(config).eval()
    with torch.no_grad():
        for name, parameter in sam2.named_parameters():
            scale = 0.1 if "memory" in name or "pointer" in name or "temporal" in name else 0.05
            parameter.add_(torch.randn_like(parameter) * scale)
    pixels, masks = draw_clip(8), draw_masks(2, 0)
    found = propagate(sam2, pixels, {n: {0: masks[0][n]} for n in range(2)})
    return balance(sam2, {frame: out for frame, out in found.items() if frame})


@torch.no_grad()
def balance(sam2: Sam2, found: Tracked) -> Sam2:
    """Move the presence head so that half of the objects found are there and half are not."""
    middle = torch.cat([presence for _, presence in found.values()]).median()
    sam2.native.mask_decoder.pred_obj_score_head.proj_out.bias -= middle
    return sam2


def build_native(sam2: Sam2) -> Any:
    """Build the library's model with the weights of ours; our image encoder leaves out what only the library reads."""
    native = type(sam2.native)(sam2.native.config).eval()
    native.load_state_dict(sam2.native.state_dict())
    return native.to(sam2.native.no_memory_embedding.dtype)


def open_session(pixels: Tensor) -> Sam2VideoInferenceSession:
    return Sam2VideoInferenceSession(
        video=pixels, video_height=SIDE, video_width=SIDE, dtype=torch.float32, max_vision_features_cache_size=1
    )


@torch.no_grad()
def propagate(sam2: Sam2, pixels: Tensor, given: Given, *, reverse: bool = False) -> Tracked:
    """Give masks as prompts and let the library propagate them; objects come in the order of `given`."""
    session, native = open_session(pixels), build_native(sam2)
    for key, masks in given.items():
        for frame, mask in masks.items():
            session.add_mask_inputs(session.obj_id_to_idx(key), frame, mask[None, None].float())
    frames = sorted({frame for masks in given.values() for frame in masks})
    for frame in frames:
        session.obj_with_new_inputs = [key for key, masks in given.items() if frame in masks]
        native(session, frame_idx=frame)
    start = frames[-1] if reverse else frames[0]
    found = native.propagate_in_video_iterator(session, start_frame_idx=start, reverse=reverse)
    return {out.frame_idx: (out.pred_masks[:, 0].clone(), out.object_score_logits[:, 0].clone()) for out in found}


@torch.no_grad()
def follow_language(sam2: Sam2, pixels: Tensor, prompt: Tensor, num_prompted: int) -> Tracked:
    """Follow one object as the released Sa2VA does: an embedding (C,) on the first frames, soft masks in memory.

    Memory, attention and bookkeeping are the library's; the head is written out because the library takes no
    embedding, overwrites absent masks and binarizes prompted ones.
    """
    session, native, found = open_session(pixels), build_native(sam2), {}
    index = session.obj_id_to_idx(1)
    for t in range(len(pixels)):
        features, positions = native._prepare_vision_features(session, t, 1)
        prompted = t < num_prompted
        conditioned = native._prepare_memory_conditioned_features(
            session, t, index, prompted, features[-1], positions[-1], num_total_frames=len(pixels)
        )
        maps = [
            x.permute(1, 2, 0).view(1, -1, *size)
            for x, size in zip(features[:-1], native.backbone_feature_sizes[:-1], strict=True)
        ]
        nothing = native.prompt_encoder.not_a_point_embed.weight[0]
        sparse = torch.stack([nothing, nothing, prompt] if prompted else [nothing, nothing])[None, None]
        masks, scores, tokens, presence = native.mask_decoder(
            image_embeddings=conditioned,
            image_positional_embeddings=native.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=native.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1),
            multimask_output=True,
            high_resolution_features=maps,
        )
        best = scores[0, 0].argmax()
        mask = masks[:, 0, best]  # (1, h, w)
        there = bool(presence > 0)
        pointer = native.object_pointer_proj(tokens[:, 0, best]) if there else native.no_object_pointer
        square = torch.nn.functional.interpolate(mask[:, None], (SIDE, SIDE), mode="bilinear")
        memory, memory_positions = native._encode_new_memory(features[-1], square, presence[:, 0], False)
        stored = {
            "object_pointer": pointer,
            "object_score_logits": presence,
            "maskmem_features": memory,
            "maskmem_pos_enc": memory_positions,
        }
        session.store_output(index, t, output_value=stored, is_conditioning_frame=prompted)
        found[t] = mask, presence[:, 0, 0]
    return found
