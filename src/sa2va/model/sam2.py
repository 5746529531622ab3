"""Decode masks with native SAM 2 parts: one frame's features and prompt embeddings in, mask logits out.

Flow: processor.py (sam_pixel_values) -> encode_frames (once per frame) -> decode (all objects in one batch)
    -> tracker.py (memory) or sa2va.py.
Source: SAM 2, arXiv:2408.00714; Sa2VA, arXiv:2501.04001, for how the language enters: the sparse prompt is
    [not a point, not a point, [SEG] embedding], the dense one is "no mask", the best of three masks is taken.
Shapes: F frames, N decoded masks, C width, S input side, h w finest grid (S/4), g g coarsest grid (S/16), Q prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam2VideoConfig, Sam2VideoModel


class FrameFeatures(NamedTuple):
    """Features of F frames, ready for the decoder."""

    embeds: Tensor  # (F, C, g, g), without memory
    high_res: tuple[Tensor, Tensor]  # (F, C/8, h, w) and (F, C/4, h/2, w/2), through the decoder's convolutions

    def select(self, index: Tensor | slice) -> "FrameFeatures":
        return FrameFeatures(self.embeds[index], (self.high_res[0][index], self.high_res[1][index]))


@dataclass(frozen=True)
class MaskOutput:
    """Decoder output for N masks."""

    candidates: Tensor  # (N, 3, h, w) logits
    candidate_scores: Tensor  # (N, 3) predicted IoU
    presence_logits: Tensor  # (N,) > 0: the object is in the frame
    pointers: Tensor  # (N, C) object pointer for the memory

    @property
    def best(self) -> Tensor:
        """(N,) which candidate has the highest predicted IoU."""
        return self.candidate_scores.argmax(-1)

    @property
    def mask_logits(self) -> Tensor:
        """(N, h, w) of the best candidate."""
        return self.candidates[torch.arange(len(self.best), device=self.best.device), self.best]

    @property
    def scores(self) -> Tensor:
        """(N,) predicted IoU of the best candidate, 0..1."""
        return self.candidate_scores.max(-1).values.clamp(0, 1)

    def select(self, rows: Tensor | slice) -> "MaskOutput":
        """Take some of the masks."""
        return MaskOutput(
            self.candidates[rows], self.candidate_scores[rows], self.presence_logits[rows], self.pointers[rows]
        )

    @staticmethod
    def concatenate(outputs: Sequence["MaskOutput"]) -> "MaskOutput":
        """Put several outputs into one, in order."""
        return MaskOutput(
            torch.cat([o.candidates for o in outputs]),
            torch.cat([o.candidate_scores for o in outputs]),
            torch.cat([o.presence_logits for o in outputs]),
            torch.cat([o.pointers for o in outputs]),
        )


class Memory(NamedTuple):
    """What one frame leaves behind, for N objects."""

    features: Tensor  # (g*g, N, 64), bfloat16 as in the reference
    positions: Tensor  # (g*g, N, 64)
    pointers: Tensor  # (N, C)


class Sam2(nn.Module):
    """SAM 2 for prompts that come from a language model."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.native = Sam2VideoModel(Sam2VideoConfig(**config))
        # SAM 2 has one random position matrix; the native class draws it twice, and a point would not find its pixel.
        shared = self.native.prompt_encoder.shared_embedding.positional_embedding
        self.native.shared_image_embedding.positional_embedding.data.copy_(shared.data)

    @property
    def width(self) -> int:
        """C, width of a prompt embedding."""
        return self.native.hidden_dim

    @property
    def size(self) -> int:
        """S, side of the square input in px."""
        size = self.native.config.image_size
        assert isinstance(size, int)
        return size

    def encode_frames(self, sam_pixel_values: Tensor) -> FrameFeatures:
        """Run the image encoder once: (F, 3, S, S) -> features."""
        return self.project_maps(self.encode_maps(sam_pixel_values))

    def encode_maps(self, sam_pixel_values: Tensor) -> Sequence[Tensor]:
        """Return the encoder's own three maps, finest first, all of width C; training may keep this part frozen."""
        return self.native.vision_encoder(sam_pixel_values, return_dict=True).fpn_hidden_states

    def project_maps(self, maps: Sequence[Tensor]) -> FrameFeatures:
        """Prepare maps for the decoder with its own convolutions."""
        decoder = self.native.mask_decoder
        return FrameFeatures(maps[2], (decoder.conv_s0(maps[0]), decoder.conv_s1(maps[1])))

    def without_memory(self, embeds: Tensor) -> Tensor:
        """Mark features as not conditioned on memory: (N, C, g, g) -> (N, C, g, g)."""
        return embeds + self.native.no_memory_embedding[0, 0, :, None, None]

    def language_prompt(self, prompt_embeds: Tensor | None, num_masks: int) -> Tensor:
        """Build the sparse prompt: (N, C) -> (N, 3, C), or (N, 2, C) for a frame without a prompt."""
        empty = self.native.prompt_encoder.not_a_point_embed.weight.expand(num_masks, 2, -1)
        if prompt_embeds is None:
            return empty
        return torch.cat([empty, prompt_embeds[:, None].to(empty.dtype)], dim=1)

    def embed_places(self, places: Tensor) -> Tensor:
        """Embed places as SAM 2 embeds the positions of image features: (..., 2) xy in 0..1 -> (..., C)."""
        return self.native.prompt_encoder.shared_embedding(places)

    def decode(self, embeds: Tensor, high_res: tuple[Tensor, Tensor], sparse: Tensor) -> MaskOutput:
        """Decode one mask per row.

        Args:
            embeds: (N, C, g, g), already with or without memory.
            high_res: features of the same rows.
            sparse: (N, Q, C) prompt tokens.
        """
        native = self.native
        dense = native.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embeds)
        positions = native.get_image_wide_positional_embeddings().to(embeds.dtype).expand_as(embeds)
        masks, scores, tokens, presence = native.mask_decoder(
            image_embeddings=embeds,
            image_positional_embeddings=positions,
            sparse_prompt_embeddings=sparse[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=True,  # the single-mask token would silently fall back to these in eval mode
            high_resolution_features=list(high_res),
        )
        scores, presence = scores[:, 0].float(), presence[:, 0, 0].float()
        best = tokens[torch.arange(len(tokens), device=tokens.device), 0, scores.argmax(-1)]  # (N, C)
        seen = (presence > 0).to(best.dtype)[:, None]
        pointers = seen * native.object_pointer_proj(best) + (1 - seen) * native.no_object_pointer
        return MaskOutput(masks[:, 0].float(), scores, presence, pointers)

    def upscale(self, mask_logits: Tensor) -> Tensor:
        """Enlarge logits to the input size: (N, h, w) -> (N, S, S)."""
        return F.interpolate(mask_logits[:, None].float(), (self.size, self.size), mode="bilinear")[:, 0]

    def encode_memory(self, embeds: Tensor, output: MaskOutput) -> Memory:
        """Remember a frame: its features without memory (N, C, g, g) and the masks found on it."""
        native, config = self.native, self.native.config
        masks = self.upscale(output.mask_logits).sigmoid()
        masks = masks * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        features, positions = native.memory_encoder(embeds, masks[:, None].to(embeds.dtype))
        if native.occlusion_spatial_embedding_parameter is not None:
            gone = (output.presence_logits <= 0).to(features.dtype)[:, None, None, None]
            features = features + gone * native.occlusion_spatial_embedding_parameter[..., None, None]
        positions = positions.expand_as(features)
        return Memory(
            features.to(torch.bfloat16).flatten(2).permute(2, 0, 1),
            positions.to(embeds.dtype).flatten(2).permute(2, 0, 1),
            output.pointers,
        )
