"""Compose Sa2VA: an MLLM that speaks, a projector for its [SEG] states, SAM 2 that draws.

Flow: Batch -> encode (text and pictures) -> hidden states -> [SEG] states -> decode_masks -> MaskOutput;
    forward() ends in losses, Predictor in masks; both go through the same two functions.
Source: Sa2VA, arXiv:2501.04001, figure 2.
Shapes: B samples, L tokens, D MLLM width, C SAM 2 width, N [SEG] tokens, K prompted frames, F frames of the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.protocol import TextInput
from sa2va.model.losses import LossConfig, average, mask_losses, total_loss
from sa2va.model.mllm import Mllm
from sa2va.model.processor import Batch, Prompts
from sa2va.model.projector import SegProjector, SegProjectorConfig
from sa2va.model.sam.catalog import build_sam2
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput
from sa2va.tokens import IGNORE_INDEX


class Sa2VA(nn.Module):
    """The whole model, built from native Transformers parts."""

    def __init__(self, config: Sa2VAConfig) -> None:
        super().__init__()
        self.config = config
        self.mllm = Mllm(config.family, config.mllm)
        self.sam2 = build_sam2(config.sam2)
        self.projector = SegProjector(SegProjectorConfig(in_dim=self.mllm.width, out_dim=self.sam2.width))

    def encode(self, prompts: Prompts) -> TextInput:
        """Embed text and pictures for the language model; see `Mllm.embed_inputs`."""
        return self.mllm.embed_inputs(prompts)

    def decode_masks(self, seg_states: Tensor, frames: FrameFeatures, seg_frames: Tensor) -> MaskOutput:
        """Decode each [SEG] on each of its prompted frames, all in one decoder batch.

        Args:
            seg_states: (N, D) hidden states at [SEG].
            frames: features of all frames, each encoded once however many objects look at it.
            seg_frames: (N, K) which of the frames each [SEG] is decoded on.

        Returns:
            N * K rows, those of one [SEG] together.
        """
        return self.decode_prompts(self.projector(seg_states), frames, seg_frames)  # (N, D) -> (N, C)

    def decode_prompts(self, prompt_embeds: Tensor, frames: FrameFeatures, seg_frames: Tensor) -> MaskOutput:
        """Decode prompt embeddings (N, C) as `decode_masks` does with the states they come from."""
        prompts = prompt_embeds.repeat_interleave(seg_frames.shape[1], dim=0)  # (N*K, C): one for all frames
        seen = frames.select(seg_frames.flatten())
        sparse = self.sam2.language_prompt(prompts, len(prompts))
        return self.sam2.decode(self.sam2.without_memory(seen.embeds), seen.high_res, sparse)

    def choose_prompts(self, output: MaskOutput, num_frames: int) -> list[Tensor]:
        """Choose on which of its key frames each object prompts SAM 2's memory.

        One [SEG] stands for the object on all key frames, but a tiny model puts into it where the object is on one
        of them; once it has moved, the others show something else. Their own scores tell.

        Args:
            output: N * K masks, those of one object together.
            num_frames: K.

        Returns:
            For each of the K frames the rows of `output` that count there; every object counts somewhere.
        """
        scores = output.scores.view(-1, num_frames)
        sure = scores >= self.config.sure_keyframes * scores.amax(1, keepdim=True)
        return [torch.nonzero(sure[:, k])[:, 0] * num_frames + k for k in range(num_frames)]

    def hidden_states(self, batch: Batch) -> Tensor:
        """Run the language model over whole conversations: Batch -> (B, L, D)."""
        return self.mllm.run_text(self.encode(batch))

    def gather_seg_states(self, hidden_states: Tensor, batch: Batch) -> Tensor:
        """Pick the states where [SEG] is the input: (B, L, D) -> (N, D)."""
        return hidden_states[batch.seg_positions[:, 0], batch.seg_positions[:, 1]]

    def text_loss(self, hidden_states: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the supervised tokens (B, L), each said by the state (B, L, D) before it; 0 of none."""
        said = labels[:, 1:] != IGNORE_INDEX  # few of all, and logits are wide
        logits = self.mllm.logits(hidden_states[:, :-1][said]).float()
        return average(F.cross_entropy(logits, labels[:, 1:][said], reduction="none"))

    def forward(self, batch: Batch, config: LossConfig | None = None) -> dict[str, Tensor]:
        """Return the losses of a batch by name, with their weighted sum under "total"."""
        config = config or LossConfig()
        states = self.hidden_states(batch)
        terms = {"lm": self.text_loss(states, batch.labels)}
        if len(batch.seg_positions):
            frames = self.sam2.encode_frames(batch.sam_pixel_values)
            output = self.decode_masks(self.gather_seg_states(states, batch), frames, batch.seg_frames)
            terms |= mask_losses(output, batch.seg_targets.flatten(0, 1), config)
        return terms | {"total": total_loss(terms, config)}
