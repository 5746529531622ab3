"""Decode masks with the native SAM 2: features of a frame and prompt embeddings in, mask logits out.

Flow: processor.py (sam_pixel_values) -> encode_frames (once per frame) -> decode (all objects in one batch), or
    take_masks for mask prompts -> tracker.py (memory) or sa2va.py.
Source: SAM 2, arXiv:2408.00714; Sa2VA, arXiv:2501.04001, for the language prompt: the sparse prompt is
    [not a point, not a point, [SEG] embedding], the dense one is "no mask", and the best of three masks is used.
Shapes: F frames, N decoded masks, C width, S input side, h w finest grid (S/4), g g coarsest grid (S/16), Q prompts,
    L memory tokens of a map, M maps and P pointers that a frame attends to.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, Sam2VideoConfig, Sam2VideoModel, Sam2VisionModel
from transformers.models.sam2_video.modeling_sam2_video import get_1d_sine_pe

from sa2va.model.attention import BLOCKWISE
from sa2va.model.sam.hiera import use_window_order
from sa2va.model.sam.memory_attention import Memories, Merged, can_read, read_memories

ABSENT_LOGIT = -1024.0  # mask logit of an absent object, as in SAM 2
GIVEN_LOGIT = 10.0  # absolute mask logit of a mask prompt, as in SAM 2


class FrameFeatures(NamedTuple):
    """Features of F frames, as input of the mask decoder."""

    embeds: Tensor  # (F, C, g, g), without memory
    high_res: tuple[Tensor, Tensor]  # (F, C/8, h, w) and (F, C/4, h/2, w/2), projected by the decoder's convolutions

    def select(self, index: Tensor | slice) -> "FrameFeatures":
        return FrameFeatures(self.embeds[index], (self.high_res[0][index], self.high_res[1][index]))

    def expand(self, num_objects: int) -> "FrameFeatures":
        """Expand features of one frame to N rows; N rows are returned unchanged."""
        rows = (num_objects, -1, -1, -1)
        return FrameFeatures(self.embeds.expand(rows), (self.high_res[0].expand(rows), self.high_res[1].expand(rows)))


@dataclass(frozen=True)
class MaskOutput:
    """Decoder output for N masks, each with three candidates, or with one for an unambiguous prompt."""

    candidates: Tensor  # (N, 3 or 1, h, w) logits
    candidate_scores: Tensor  # (N, 3 or 1) predicted IoU
    presence_logits: Tensor  # (N,) > 0: the object is in the frame
    pointers: Tensor  # (N, C) object pointer for the memory

    @property
    def best(self) -> Tensor:
        """(N,) index of the candidate with the highest predicted IoU."""
        return self.candidate_scores.argmax(-1)

    @property
    def mask_logits(self) -> Tensor:
        """(N, h, w) of the best candidate."""
        index = self.best[:, None, None, None].expand(-1, 1, *self.candidates.shape[2:])
        return self.candidates.gather(1, index)[:, 0]

    @property
    def scores(self) -> Tensor:
        """(N,) predicted IoU of the best candidate, 0..1."""
        return self.candidate_scores.max(-1).values.clamp(0, 1)

    def select(self, rows: Tensor | slice) -> "MaskOutput":
        """Return some of the masks."""
        return MaskOutput(
            self.candidates[rows], self.candidate_scores[rows], self.presence_logits[rows], self.pointers[rows]
        )

    def settled(self) -> "MaskOutput":
        """Keep only the best candidate: (N, 1, h, w)."""
        scores = self.candidate_scores.gather(1, self.best[:, None])
        return replace(self, candidates=self.mask_logits[:, None], candidate_scores=scores)

    def without_absent(self) -> "MaskOutput":
        """Set the mask logits of objects predicted as absent to ABSENT_LOGIT."""
        seen = (self.presence_logits > 0)[:, None, None, None]
        return replace(self, candidates=self.candidates.where(seen, ABSENT_LOGIT))

    @staticmethod
    def concatenate(outputs: Sequence["MaskOutput"]) -> "MaskOutput":
        """Concatenate several outputs, in order."""
        return MaskOutput(
            torch.cat([o.candidates for o in outputs]),
            torch.cat([o.candidate_scores for o in outputs]),
            torch.cat([o.presence_logits for o in outputs]),
            torch.cat([o.pointers for o in outputs]),
        )


class Memory(NamedTuple):
    """Memory of one frame, for N objects."""

    features: Tensor  # (L, N, 64), L = g*g; bfloat16 as in the reference
    positions: Tensor  # (L, N, 64)
    pointers: Tensor  # (N, C)


class Sam2(nn.Module):
    """SAM 2 with prompt embeddings from a language model."""

    NATIVE_CLASS: Any = Sam2VideoModel
    CONFIG_CLASS: Any = Sam2VideoConfig

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.native = self.NATIVE_CLASS(self.build_config(config))
        self.native.vision_encoder.set_attn_implementation(BLOCKWISE)
        if isinstance(self.native.vision_encoder, Sam2VisionModel):
            use_window_order(self.native.vision_encoder)
        # SAM 2 has one random position matrix. The native class samples it twice, so points would miss their pixels.
        shared = self.native.prompt_encoder.shared_embedding.positional_embedding
        self.native.shared_image_embedding.positional_embedding.data.copy_(shared.data)

    @classmethod
    def build_config(cls, config: dict[str, Any]) -> Any:
        """Build the native configuration from JSON, with the configuration class of each part.

        Transformers 5.17 would parse the mask decoder's part with the prompt encoder's class.
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
        """Return the encoder's three feature maps, finest first, all of width C."""
        return self.native.vision_encoder(sam_pixel_values, return_dict=True).fpn_hidden_states

    def project_maps(self, maps: Sequence[Tensor]) -> FrameFeatures:
        """Project feature maps with the decoder's convolutions."""
        decoder = self.native.mask_decoder
        return FrameFeatures(maps[2], (decoder.conv_s0(maps[0]), decoder.conv_s1(maps[1])))

    def without_memory(self, embeds: Tensor) -> Tensor:
        """Add the no-memory embedding to features: (N, C, g, g) -> (N, C, g, g)."""
        return embeds + self.native.no_memory_embedding[0, 0, :, None, None]

    def language_prompt(self, prompt_embeds: Tensor | None, num_masks: int) -> Tensor:
        """Build the sparse prompt of [SEG] embeddings: (N, C) -> (N, 3, C); without a prompt (N, 2, C)."""
        empty = self.native.prompt_encoder.not_a_point_embed.weight.expand(num_masks, 2, -1)
        if prompt_embeds is None:
            return empty
        return torch.cat([empty, prompt_embeds[:, None].to(empty.dtype)], dim=1)

    def embed_places(self, places: Tensor) -> Tensor:
        """Embed points with SAM 2's position encoding of image features: (..., 2) xy in 0..1 -> (..., C)."""
        return self.native.prompt_encoder.shared_embedding(places)

    def click_prompt(self, points: Tensor, labels: Tensor) -> Tensor:
        """Build the sparse prompt of clicks: (N, P, 2) xy in px of the S x S input, labels (N, P) -> (N, P + 1, C).

        Labels: 1 positive, 0 negative, 2 and 3 the first and second corner of a box.
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
            embeds: (N, C, g, g), conditioned on memory or returned by `without_memory`.
            high_res: high-resolution features of the same rows.
            sparse: (N, Q, C) prompt tokens.
            previous: logits (N, h, w) of a mask to refine.
            num_candidates: 3, or 1 for an unambiguous prompt.
            present: the objects are known to be in the frame; the decoder's presence is overridden.
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
            # In eval mode the native decoder silently replaces an unstable single mask by the best of three candidates.
            multimask_output=num_candidates > 1,
            high_resolution_features=list(high_res),
        )
        scores, presence = scores[:, 0].float(), presence[:, 0, 0].float()
        if present:
            presence = torch.full_like(presence, GIVEN_LOGIT)
        index = scores.argmax(-1)[:, None, None].expand(-1, 1, tokens.shape[-1])
        best = tokens[:, 0].gather(1, index)[:, 0]  # (N, C)
        pointers = self._gate_pointers(native.object_pointer_proj(best), presence > 0)
        return MaskOutput(masks[:, 0].float(), scores, presence, pointers)

    def _gate_pointers(self, pointers: Tensor, seen: Tensor) -> Tensor:
        """Replace the pointers (N, C) of rows whose `seen` (N,) is False by the no-object pointer."""
        gate = seen.to(pointers.dtype)[:, None]
        return gate * pointers + (1 - gate) * self.native.no_object_pointer

    def take_masks(self, features: FrameFeatures, given: Tensor) -> MaskOutput:
        """Use mask prompts as output masks; run the decoder for object pointers only.

        Args:
            features: N rows, or F = 1 shared by all.
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
        """Resize logits to the input size: (N, h, w) -> (N, S, S)."""
        return F.interpolate(mask_logits[:, None].float(), (self.size, self.size), mode="bilinear")[:, 0]

    def enlarge(self, mask_logits: Tensor, height: int, width: int) -> Tensor:
        """Resize logits (N, h, w) to the picture's size (N, H, W).

        Two bilinear resizes, through SAM 2's input size, as in the released model; one resize moves boundary pixels.
        """
        return F.interpolate(self.upscale(mask_logits)[:, None], (height, width), mode="bilinear")[:, 0]

    def squeeze_masks(self, masks: Tensor) -> Tensor:
        """Resize bool masks of the picture (N, H, W) to the input size (N, S, S), as SAM 2 does for mask prompts."""
        sizes = (self.size, self.size)
        return F.interpolate(masks[:, None].float(), sizes, mode="bilinear", antialias=True)[:, 0] >= 0.5

    def encode_memory(
        self, embeds: Tensor, output: MaskOutput, *, given: Tensor | None = None, binarize: bool = False
    ) -> Memory:
        """Encode the memory of a frame.

        Args:
            embeds: features of the frame without memory (N, C, g, g).
            output: masks of the frame.
            given: bool (N, S, S), the mask prompts at full size if `output` comes from mask prompts.
            binarize: encode binary masks instead of probabilities.
        """
        native, config = self.native, self.native.config
        logits = self.upscale(output.mask_logits)[:, None] if given is None else self._given_logits(given)
        logits = _fit(logits, [4 * side for side in native.prompt_encoder.mask_input_size])
        masks = (logits > 0).float() if binarize else logits.sigmoid()  # (N, 1, S, S)
        masks = masks * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        features, positions = native.memory_encoder(embeds, masks.to(embeds.dtype))
        if native.occlusion_spatial_embedding_parameter is not None:
            gone = (output.presence_logits <= 0).to(features.dtype)[:, None, None, None]
            features = features + gone * native.occlusion_spatial_embedding_parameter[..., None, None]
        return Memory(*self.pack_memory(features, positions.to(embeds.dtype).expand_as(features)), output.pointers)

    def pack_memory(self, features: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Flatten memory maps, both (N, 64, g, g), to memory tokens, both (L, N, 64)."""
        return features.to(torch.bfloat16).flatten(2).permute(2, 0, 1), positions.flatten(2).permute(2, 0, 1)

    def embed_pointers(self, pointers: Tensor, ages: Tensor, max_pointers: int) -> tuple[Tensor, Tensor]:
        """Split pointers (N, P, C) into tokens of the memory's width; return tokens and positions (N, P * C/64, 64)."""
        native, width = self.native, pointers.shape[-1]
        split = max(1, width // native.mem_dim)
        tokens = pointers.unflatten(-1, (split, -1)).flatten(1, 2)
        if not native.config.enable_temporal_pos_encoding_for_object_pointers:
            return tokens, torch.zeros_like(tokens)
        waves = get_1d_sine_pe(ages.float() / float(max_pointers - 1), dim=width).to(pointers.dtype)
        positions = native.temporal_positional_encoding_projection_layer(waves)  # (N, P, 64)
        return tokens, positions.repeat_interleave(split, 1)

    def group_objects(self, sizes: Sequence[tuple[int, int]], *, alone: bool) -> list[list[int]]:
        """Group objects whose memories one call of memory attention can take.

        Transformers' module has no mask, so a group has memories of one size. An object without memory is never
        grouped with others.

        Args:
            sizes: numbers of maps and pointers of each object.
            alone: take one object at a time, with the keys that it has, instead of all at once with a mask.
        """
        groups: dict[object, list[int]] = {}
        masked = can_read(self.native.memory_attention) and not torch.is_grad_enabled()
        for row, size in enumerate(sizes):
            groups.setdefault(row if alone and masked else size[0] > 0 if masked else size, []).append(row)
        return list(groups.values())

    def attend(self, embeds: Tensor, memories: Iterable[Memories], merged: Merged | None = None) -> Tensor:
        """Condition features on memory.

        Args:
            embeds: (N, C, g, g), without memory; or F = 1 shared by all objects.
            memories: of N objects, in groups.
            merged: see `read_memories`.

        Returns:
            (N, C, g, g).
        """
        attention, (c, g) = self.native.memory_attention, embeds.shape[1:3]
        own_positions = self.native.vision_encoder.neck.position_encoding(
            torch.Size((1, c, g, g)), embeds.device, embeds.dtype
        )
        if can_read(attention) and not torch.is_grad_enabled():
            tokens, places = (x.flatten(2).transpose(1, 2) for x in (embeds, own_positions))
            conditioned = read_memories(attention, tokens, places, memories, merged)
        else:
            rows, found = 0, []
            for part in memories:
                assert part.mask is None, "Transformers' memory attention has no mask"
                n = len(part.tokens)
                own = embeds.expand(n, -1, -1, -1) if len(embeds) == 1 else embeds[rows : rows + n]
                rows += n
                attended = attention(
                    current_vision_features=own.flatten(2).permute(2, 0, 1),  # (g*g, N, C)
                    current_vision_position_embeddings=own_positions.flatten(2).permute(2, 0, 1),
                    memory=part.tokens.transpose(0, 1),
                    memory_posision_embeddings=part.positions.transpose(0, 1),
                    num_object_pointer_tokens=part.num_pointer_tokens,
                    **self.describe_memory(part.num_maps),
                )
                # The native module returns (1, N, g*g, C), contrary to its docstring.
                found.append(attended.reshape(n, g * g, c))
            conditioned = torch.cat(found)
        # Under autocast on a GPU, attention returns float32.
        return conditioned.to(embeds.dtype).transpose(1, 2).unflatten(2, (g, g))

    def describe_memory(self, num_memories: int) -> dict[str, int]:
        """Return additional keyword arguments for Transformers' memory attention."""
        return {}


def _fit(logits: Tensor, sides: Sequence[int]) -> Tensor:
    """Resize (N, 1, h, w) to the given sides if they differ, which occurs for patches other than 16 px."""
    if logits.shape[2:] == tuple(sides):
        return logits
    return F.interpolate(logits.float(), list(sides), mode="bilinear", antialias=True).to(logits.dtype)
