"""Track in mode "consistent": the fine-tuned SAM 2 decodes the key frames, the original SAM 2 propagates them.

Flow: [SEG] states -> masks on K key frames, by the fine-tuned decoder -> mask prompts of the original SAM 2
    -> Tracker with the stock policy.
Source: Sa2VA-i, arXiv:2509.19082: memory is frozen while the decoder is fine-tuned, so the two no longer match.
Shapes: N objects, K frames, D MLLM width, H W picture, S SAM 2 input side.
"""

from dataclasses import replace

import torch
from torch import Tensor

from sa2va.inference.compiling import OFF, Compiler
from sa2va.inference.requests import Options
from sa2va.inference.tracking.mask_prompting import MaskPrompting, encode_frames, fill_masks
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput, Sam2
from sa2va.model.sam.tracker import STOCK
from sa2va.types import Frames


class ConsistentMaskPrompting(MaskPrompting):
    """Mask prompting of two SAM 2: the fine-tuned one decodes masks, which prompt the original one."""

    policy = STOCK

    def __init__(
        self, model: Sa2VA, original: Sam2, options: Options, compiler: Compiler = OFF, num_frames: int = 0
    ) -> None:
        """Check that both SAM 2 have the same input size.

        Raises:
            ValueError: the two have different input sizes.
        """
        if original.size != model.sam2.size:
            raise ValueError(
                f"the original SAM 2 reads {original.size} px and the model's {model.sam2.size} px; "
                "give the SAM 2 that the model was trained from"
            )
        super().__init__(model, options, compiler, num_frames)
        self._original = original

    @property
    def sam2(self) -> Sam2:
        return self._original

    def decode(
        self, seg_states: Tensor, features: FrameFeatures, sam_frames: Tensor, frames: Frames
    ) -> tuple[MaskOutput, Tensor | None]:
        """Decode masks, then threshold them at the frame size to get mask prompts; see `MaskPrompting.decode`."""
        tuned = self.decode_states(seg_states, encode_frames(self.model.sam2, sam_frames))
        gate = self.model.config.gate_absent
        masks = fill_masks(self.model.sam2, tuned, frames.shape[1:3], self.options.mask_threshold, gate)
        given = self.sam2.squeeze_masks(masks.to(features.embeds.device))
        rows = torch.arange(len(frames), device=features.embeds.device).repeat(len(seg_states))  # (N * K,)
        taken = self.sam2.take_masks(features.select(rows), given)
        # SAM 2 gives a mask prompt full confidence; keep the scores of the decoder that predicted it.
        return replace(taken, candidate_scores=tuned.scores[:, None].to(given.device)), given


def build_prompting(
    model: Sa2VA, original: Sam2 | None, options: Options, compiler: Compiler, num_frames: int
) -> MaskPrompting:
    """Build the mask prompting of one SAM 2, or of two where the original one tracks."""
    if original is None:
        return MaskPrompting(model, options, compiler, num_frames)
    return ConsistentMaskPrompting(model, original, options, compiler, num_frames)
