"""Compose Sa2VA: MLLM, projector of [SEG] states, SAM 2.

Flow: Batch -> encode (text and pictures) -> hidden states -> [SEG] states -> decode_masks -> MaskOutput.
    forward() computes losses and inference/ computes masks, both through these functions.
Source: Sa2VA, arXiv:2501.04001, figure 2.
Shapes: B samples, L tokens, D MLLM width, C SAM 2 width, M mask tokens, R masks to decode, F frames of the batch.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model import following
from sa2va.model.auxiliary import Auxiliary, ForwardView
from sa2va.model.batch import Batch, Prompts
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.catalog import find_family
from sa2va.model.families.protocol import TextInput
from sa2va.model.losses import LossConfig, LossTerm, mask_losses
from sa2va.model.mllm import Mllm
from sa2va.model.projector import SegProjector, SegProjectorConfig
from sa2va.model.sam.catalog import build_sam2
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput
from sa2va.model.seg_design import SEG_DESIGNS
from sa2va.model.temporal import TemporalConfig
from sa2va.tokens import IGNORE_INDEX

BLANK = np.zeros((32, 32, 3), np.uint8)


class Sa2VA(nn.Module):
    """Sa2VA, built from native Transformers models."""

    def __init__(self, config: Sa2VAConfig) -> None:
        super().__init__()
        self.config = config
        self.mllm = Mllm(config.family, config.mllm, TemporalConfig.of(config))
        self.sam2 = build_sam2(config.sam2)
        self.projector = SegProjector(SegProjectorConfig(in_dim=self.mllm.width, out_dim=self.sam2.width))
        self.design = SEG_DESIGNS[config.seg_design]

    def encode(self, prompts: Prompts) -> TextInput:
        """Embed text and pictures for the language model; prompts may be on the host, see `Mllm.embed_inputs`."""
        return self.mllm.embed_inputs(prompts, self.projector.fc1.weight.device)

    def decode_masks(self, seg_states: Tensor, frames: FrameFeatures, rows: Tensor) -> MaskOutput:
        """Decode masks from the states of mask tokens, all in one decoder batch.

        Args:
            seg_states: (M, D) hidden states at the mask tokens.
            frames: features of all frames, each encoded once for all objects.
            rows: (R, 3) long, state index, frame index and object of each mask; see `SegDesign.seg_rows`.

        Returns:
            R masks.
        """
        return self.decode_prompts(self.projector(seg_states), frames, rows)  # (M, D) -> (M, C)

    def decode_prompts(self, prompt_embeds: Tensor, frames: FrameFeatures, rows: Tensor) -> MaskOutput:
        """Decode masks from projected states (M, C); see `decode_masks`."""
        rows = rows.to(prompt_embeds.device)
        seen = frames.select(rows[:, 1])
        sparse = self.sam2.language_prompt(prompt_embeds[rows[:, 0]], len(rows))
        return self.sam2.decode(self.sam2.without_memory(seen.embeds), seen.high_res, sparse)

    def choose_prompts(self, output: MaskOutput, num_frames: int) -> list[Tensor]:
        """Select the key frames that prompt SAM 2's memory; see `following.choose_prompts`."""
        return following.choose_prompts(output, num_frames, self.config.sure_keyframes)

    def gather_seg_states(self, hidden_states: Tensor, batch: Batch) -> Tensor:
        """Gather the states at the positions of mask tokens: (B, L, D) -> (M, D)."""
        return hidden_states[batch.seg_positions[:, 0], batch.seg_positions[:, 1]]

    def text_loss(self, hidden_states: Tensor, labels: Tensor, weight: float = 1.0) -> LossTerm:
        """Compute the next-token cross-entropy: states (B, L, D), labels (B, L) with IGNORE_INDEX."""
        supervised = labels[:, 1:] != IGNORE_INDEX  # logits only of these, to save memory
        logits = self.mllm.logits(hidden_states[:, :-1][supervised]).float()
        return LossTerm.of(F.cross_entropy(logits, labels[:, 1:][supervised], reduction="none"), weight)

    def forward(
        self, batch: Batch, losses: LossConfig | None = None, *, auxiliary: Auxiliary | None = None
    ) -> dict[str, LossTerm]:
        """Return the loss terms of a batch by name: "lm", those of `mask_losses` and the auxiliary ones.

        Args:
            batch: its `parts` select what runs; a part without rows in this process has loss 0.
            losses: weights; None = the paper's.
            auxiliary: auxiliary losses on intermediate states.
        """
        losses = losses or LossConfig()
        inputs = self.encode(batch)
        if "pictures" in batch.parts and not len(batch.visual_index):
            inputs = replace(inputs, embeds=inputs.embeds + 0 * self._blank_tokens())
        if "clips" in batch.parts and not len(batch.clips) and self.mllm.temporal is not None:
            inputs = replace(inputs, embeds=inputs.embeds + 0 * self.mllm.temporal.encode_blank())
        layers = tuple(auxiliary.attention_layers) if auxiliary else ()
        states, attentions = self.mllm.run_text_recorded(inputs, layers)
        terms = {"lm": self.text_loss(states, batch.labels, losses.lm)}
        seg_states = self.gather_seg_states(states, batch)
        prompt_embeds = self.projector(seg_states)
        if "masks" in batch.parts:
            terms |= self._mask_terms(batch, states, prompt_embeds, losses)
        if auxiliary is not None:
            view = ForwardView(
                input_embeds=inputs.embeds,
                is_visual=batch.input_ids == self.mllm.image_token_id,
                hidden_states=states,
                seg_states=seg_states,
                prompt_embeds=prompt_embeds,
                attentions=attentions,
            )
            terms |= auxiliary(view)
        return terms

    def count_rows(self, batch: Batch, losses: LossConfig | None = None) -> dict[str, float]:
        """Count the rows of each loss term of `forward`, before it runs, from a batch on any device.

        Objects that are tracked are left out, since only the masks of their key frames decide which ones are.
        """
        losses = losses or LossConfig()
        num_masks, num_there = len(batch.seg_rows), int(batch.seg_targets.flatten(1).any(1).sum())
        drawn = num_there if losses.skip_empty else num_masks
        supervised = int((batch.labels[:, 1:] != IGNORE_INDEX).sum())
        masks = {"presence": num_masks, "place": num_there, **dict.fromkeys(("bce", "dice", "iou"), drawn)}
        return {"lm": supervised, **masks}

    def _mask_terms(
        self, batch: Batch, states: Tensor, prompt_embeds: Tensor, losses: LossConfig
    ) -> dict[str, LossTerm]:
        """Decode every mask, track some objects, and compute the losses against visible pixels."""
        counts = 1.0  # count of each mask in the mean, 1 or 0
        if not len(batch.seg_rows):
            prompt_embeds, batch, counts = self.projector(states[:1, 0]), self._with_blank_row(batch), 0.0
        frames = self.sam2.encode_frames(batch.sam_pixel_values)
        output = self.decode_prompts(prompt_embeds, frames, batch.seg_rows)
        targets, seeds, weights = batch.seg_targets, batch.seg_seeds, torch.full_like(output.presence_logits, counts)
        tracks = batch.tracks and following.find_objects(batch.tracks, output, targets, losses.follow_iou)
        counts = 1.0
        if (tracks is None or not len(tracks.key_rows)) and "tracks" in batch.shared_parts:
            tracks, counts = following.nothing_to_follow(self.sam2, targets), 0.0
        if tracks is not None and len(tracks.key_rows):
            share = self.config.sure_keyframes
            followed = following.follow_objects(self.sam2, tracks, frames, batch.seg_rows[:, 1], output, share)
            output = MaskOutput.concatenate([output, followed])
            targets = torch.cat([targets, tracks.targets.transpose(0, 1).flatten(0, 1)])
            seeds = torch.cat([seeds, tracks.seeds.T.flatten()])
            weights = torch.cat([weights, torch.full_like(followed.presence_logits, counts)])
        return mask_losses(output, targets, losses, seeds, weights)

    def _with_blank_row(self, batch: Batch) -> Batch:
        """Add one mask on a blank frame to a batch without masks."""
        zeros, side = batch.labels.new_zeros, self.sam2.size
        return replace(
            batch,
            sam_pixel_values=self.projector.fc1.weight.new_zeros(1, 3, side, side),
            seg_rows=zeros(1, 3),
            seg_targets=zeros(1, side, side, dtype=torch.bool),
            seg_seeds=zeros(1),
        )

    def _blank_tokens(self) -> Tensor:
        """Encode a blank picture; return the sum of its tokens, which connects the image encoder to the graph."""
        picture = find_family(self.config.family).read_picture(BLANK, self.config, is_frame=True)
        weight = self.projector.fc1.weight
        visual = self.mllm.encode_images(
            picture.pixel_values.to(weight), torch.tensor([picture.grid]).to(weight.device)
        )
        return torch.stack([tokens.sum() for tokens in (visual.tokens, *visual.deepstack)]).sum()
