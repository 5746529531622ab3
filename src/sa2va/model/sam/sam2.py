"""Decode masks with native SAM 2 parts: one frame's features and prompt embeddings in, mask logits out.

Flow: processor.py (sam_pixel_values) -> encode_frames (once per frame) -> decode (all objects in one batch), or
    take_masks where a mask is given -> tracker.py (memory) or sa2va.py.
Source: SAM 2, arXiv:2408.00714; Sa2VA, arXiv:2501.04001, for how the language enters: the sparse prompt is
    [not a point, not a point, [SEG] embedding], the dense one is "no mask", the best of three masks is taken.
Shapes: F frames, N decoded masks, C width, S input side, h w finest grid (S/4), g g coarsest grid (S/16), Q prompts,
    P clicks, L memory tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, Sam2VideoConfig, Sam2VideoModel

from sa2va.model.sam.attention import BLOCKWISE
from sa2va.model.sam.memory_attention import can_read, read_memories

ABSENT_LOGIT = -1024.0  # of every pixel of an object that is not there, as in SAM 2
GIVEN_LOGIT = 10.0  # plus or minus, of a mask that was given and not decoded, as in SAM 2


class FrameFeatures(NamedTuple):
    """Features of F frames, ready for the decoder."""

    embeds: Tensor  # (F, C, g, g), without memory
    high_res: tuple[Tensor, Tensor]  # (F, C/8, h, w) and (F, C/4, h/2, w/2), through the decoder's convolutions

    def select(self, index: Tensor | slice) -> "FrameFeatures":
        return FrameFeatures(self.embeds[index], (self.high_res[0][index], self.high_res[1][index]))

    def expand(self, num_objects: int) -> "FrameFeatures":
        """Show one frame to several objects: F = 1 -> N rows; N rows stay as they are."""
        rows = (num_objects, -1, -1, -1)
        return FrameFeatures(self.embeds.expand(rows), (self.high_res[0].expand(rows), self.high_res[1].expand(rows)))


@dataclass(frozen=True)
class MaskOutput:
    """Decoder output for N masks, with three candidates each where the prompt was ambiguous and else with one."""

    candidates: Tensor  # (N, 3 or 1, h, w) logits
    candidate_scores: Tensor  # (N, 3 or 1) predicted IoU
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

    def settled(self) -> "MaskOutput":
        """Keep the best candidate alone: (N, 1, h, w)."""
        best = self.best[:, None]
        return replace(
            self, candidates=self.mask_logits[:, None], candidate_scores=self.candidate_scores.gather(1, best)
        )

    def without_absent(self) -> "MaskOutput":
        """Empty the masks of objects that are not in the frame."""
        seen = (self.presence_logits > 0)[:, None, None, None]
        return replace(self, candidates=self.candidates.where(seen, ABSENT_LOGIT))

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

    features: Tensor  # (L, N, 64), L = g*g; bfloat16 as in the reference
    positions: Tensor  # (L, N, 64)
    pointers: Tensor  # (N, C)

    def row(self, n: int) -> "Memory":
        """Take one object's part, N = 1, so that it does not keep the others' alive."""
        rows = slice(n, n + 1)
        return Memory(self.features[:, rows].clone(), self.positions[:, rows], self.pointers[rows].clone())


class Sam2(nn.Module):
    """SAM 2 for prompts that come from a language model."""

    NATIVE_CLASS: Any = Sam2VideoModel
    CONFIG_CLASS: Any = Sam2VideoConfig

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.native = self.NATIVE_CLASS(self.build_config(config))
        self.native.vision_encoder.set_attn_implementation(BLOCKWISE)
        # SAM 2 has one random position matrix; the native class draws it twice, and a point would not find its pixel.
        shared = self.native.prompt_encoder.shared_embedding.positional_embedding
        self.native.shared_image_embedding.positional_embedding.data.copy_(shared.data)

    @classmethod
    def build_config(cls, config: dict[str, Any]) -> Any:
        """Build the native configuration from its JSON form, each part of its own class.

        Left to itself, Transformers 5.17 reads the mask decoder's part as if it were the prompt encoder's.
        """
        parts = {
            name: kind(**config[name])
            for name, kind in cls.CONFIG_CLASS.sub_configs.items()
            if kind is not AutoConfig and isinstance(config.get(name), dict)
        }
        return cls.CONFIG_CLASS(**config | parts)

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

    def click_prompt(self, points: Tensor, labels: Tensor) -> Tensor:
        """Build the sparse prompt of clicks: (N, P, 2) xy in px of the S x S input, labels (N, P) -> (N, P + 1, C).

        A label is 1 on the object, 0 beside it, 2 and 3 the first and the second corner of a box.
        """
        return self.native.prompt_encoder(points[:, None], labels[:, None], None, None)[0][:, 0]

    def decode(
        self,
        embeds: Tensor,
        high_res: tuple[Tensor, Tensor],
        sparse: Tensor,
        *,
        previous: Tensor | None = None,
        num_candidates: int = 3,
        present: bool = False,
    ) -> MaskOutput:
        """Decode one mask per row.

        Args:
            embeds: (N, C, g, g), already with or without memory.
            high_res: features of the same rows.
            sparse: (N, Q, C) prompt tokens.
            previous: logits (N, h, w) of a mask to start from.
            num_candidates: 3, or 1 where the prompt leaves no doubt.
            present: the objects are known to be in the frame, whatever the decoder makes of it.
        """
        native = self.native
        if previous is None:
            dense = native.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embeds)
        else:
            dense = native.prompt_encoder.mask_embed(previous[:, None].to(embeds.dtype))
        positions = native.get_image_wide_positional_embeddings().to(embeds.dtype).expand_as(embeds)
        masks, scores, tokens, presence = native.mask_decoder(
            image_embeddings=embeds,
            image_positional_embeddings=positions,
            sparse_prompt_embeddings=sparse[:, None],
            dense_prompt_embeddings=dense,
            # Without a click the single-mask token would silently fall back to the three in eval mode.
            multimask_output=num_candidates > 1,
            high_resolution_features=list(high_res),
        )
        scores, presence = scores[:, 0].float(), presence[:, 0, 0].float()
        if present:
            presence = torch.full_like(presence, GIVEN_LOGIT)
        best = tokens[torch.arange(len(tokens), device=tokens.device), 0, scores.argmax(-1)]  # (N, C)
        pointers = self._gate_pointers(native.object_pointer_proj(best), presence > 0)
        return MaskOutput(masks[:, 0].float(), scores, presence, pointers)

    def _gate_pointers(self, pointers: Tensor, seen: Tensor) -> Tensor:
        """Replace the pointers (N, C) of objects that are not seen (N,)."""
        gate = seen.to(pointers.dtype)[:, None]
        return gate * pointers + (1 - gate) * self.native.no_object_pointer

    def take_masks(self, features: FrameFeatures, given: Tensor) -> MaskOutput:
        """Take masks that were given as they are, and let the decoder only say how to recognise the objects.

        Args:
            features: N rows, or F = 1 for all.
            given: bool (N, S, S).
        """
        native, features = self.native, features.expand(len(given))
        filled = given[:, None].to(features.embeds.dtype)  # (N, 1, S, S)
        pointers = self.decode(
            features.embeds,
            features.high_res,
            self.language_prompt(None, len(given)),
            previous=_fit(native.mask_downsample(filled), native.prompt_encoder.mask_input_size)[:, 0],
        ).pointers
        seen = given.flatten(1).any(1)
        return MaskOutput(
            candidates=F.interpolate(
                self._given_logits(given), native.prompt_encoder.mask_input_size, mode="bilinear", antialias=True
            ),
            candidate_scores=pointers.new_ones(len(given), 1, dtype=torch.float32),
            presence_logits=(2 * seen.float() - 1) * GIVEN_LOGIT,
            pointers=self._gate_pointers(pointers, seen),
        )

    @staticmethod
    def _given_logits(given: Tensor) -> Tensor:
        """Turn bool masks (N, S, S) into logits (N, 1, S, S)."""
        return (2 * given[:, None].float() - 1) * GIVEN_LOGIT

    def upscale(self, mask_logits: Tensor) -> Tensor:
        """Enlarge logits to the input size: (N, h, w) -> (N, S, S)."""
        return F.interpolate(mask_logits[:, None].float(), (self.size, self.size), mode="bilinear")[:, 0]

    def enlarge(self, mask_logits: Tensor, height: int, width: int) -> Tensor:
        """Bring logits (N, h, w) to the picture's size (N, H, W).

        Twice bilinear, through SAM 2's own size, as in the released model: one resize moves boundary pixels.
        """
        return F.interpolate(self.upscale(mask_logits)[:, None], (height, width), mode="bilinear")[:, 0]

    def squeeze_masks(self, masks: Tensor) -> Tensor:
        """Bring bool masks of the picture (N, H, W) to SAM 2's own size (N, S, S), as SAM 2 takes in given masks."""
        sizes = (self.size, self.size)
        return F.interpolate(masks[:, None].float(), sizes, mode="bilinear", antialias=True)[:, 0] >= 0.5

    def encode_memory(
        self, embeds: Tensor, output: MaskOutput, *, given: Tensor | None = None, binarise: bool = False
    ) -> Memory:
        """Remember a frame.

        Args:
            embeds: its features without memory (N, C, g, g).
            output: the masks found on it.
            given: bool (N, S, S), the same masks at full size where they were given.
            binarise: remember hard masks and not how sure each pixel was.
        """
        native, config = self.native, self.native.config
        logits = self.upscale(output.mask_logits)[:, None] if given is None else self._given_logits(given)
        logits = _fit(logits, [4 * side for side in native.prompt_encoder.mask_input_size])
        masks = (logits > 0).float() if binarise else logits.sigmoid()  # (N, 1, S, S)
        masks = masks * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        features, positions = native.memory_encoder(embeds, masks.to(embeds.dtype))
        if native.occlusion_spatial_embedding_parameter is not None:
            gone = (output.presence_logits <= 0).to(features.dtype)[:, None, None, None]
            features = features + gone * native.occlusion_spatial_embedding_parameter[..., None, None]
        return Memory(*self.pack_memory(features, positions.to(embeds.dtype).expand_as(features)), output.pointers)

    def pack_memory(self, features: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Turn memory maps, both (N, 64, g, g), into the tokens that are kept, both (L, N, 64)."""
        return features.to(torch.bfloat16).flatten(2).permute(2, 0, 1), positions.flatten(2).permute(2, 0, 1)

    def attend(
        self, embeds: Tensor, memory: Tensor, positions: Tensor, *, num_memories: int, num_pointer_tokens: int
    ) -> Tensor:
        """Let features attend to memory.

        Args:
            embeds: (N, C, g, g), without memory; or F = 1, for all objects.
            memory: (L, N, 64), the packed maps first and the tokens of pointers last.
            positions: (L, N, 64).
            num_memories: how many maps there are.
            num_pointer_tokens: how many tokens of pointers.

        Returns:
            (N, C, g, g).
        """
        attention, n, (c, g) = self.native.memory_attention, memory.shape[1], embeds.shape[1:3]
        own_positions = self.native.vision_encoder.neck.position_encoding(
            torch.Size((1, c, g, g)), embeds.device, embeds.dtype
        )
        if can_read(attention) and not torch.is_grad_enabled():
            conditioned = read_memories(
                attention,
                embeds.flatten(2).transpose(1, 2),
                own_positions.flatten(2).transpose(1, 2),
                memory.transpose(0, 1),
                positions.transpose(0, 1),
                num_pointer_tokens=num_pointer_tokens,
            )
        else:
            conditioned = attention(
                current_vision_features=embeds.expand(n, -1, -1, -1).flatten(2).permute(2, 0, 1),  # (g*g, N, C)
                current_vision_position_embeddings=own_positions.flatten(2).permute(2, 0, 1),
                memory=memory,
                memory_posision_embeddings=positions,
                num_object_pointer_tokens=num_pointer_tokens,
                **self.describe_memory(num_memories),
            )
        # The native module gives (1, N, g*g, C) back, however its docstring reads.
        return conditioned.reshape(n, g * g, c).transpose(1, 2).reshape(n, c, g, g)

    def describe_memory(self, num_memories: int) -> dict[str, int]:
        """Return what else the library's memory attention has to know."""
        return {}


def _fit(logits: Tensor, sides: Sequence[int]) -> Tensor:
    """Bring (N, 1, h, w) to the size of the memory's or of the prompt's own grid, where patches are not 16 px wide."""
    if logits.shape[2:] == tuple(sides):
        return logits
    return F.interpolate(logits.float(), list(sides), mode="bilinear", antialias=True).to(logits.dtype)
