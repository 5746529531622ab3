"""Track as SAM 2 was trained to: the fine-tuned decoder speaks on a few frames, the original SAM 2 follows.

Flow: [SEG] states -> masks on K key frames, by the fine-tuned decoder -> given as masks to the original SAM 2
    -> Tracker with the stock policy.
Source: Sa2VA-i, arXiv:2509.19082: memory is frozen while the decoder is trained, so the two no longer fit together
    and a decoder that has never seen memory should not be asked to read it.
Shapes: N objects, K frames, D MLLM width, H W picture, S SAM 2 input side.
"""

from dataclasses import replace

import torch
from torch import Tensor

from sa2va.inference.results import Options
from sa2va.inference.tracking.prompting import Prompter, to_masks
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput, Sam2
from sa2va.model.sam.tracker import STOCK
from sa2va.types import Frames


class ConsistentPrompter(Prompter):
    """Draw with the fine-tuned SAM 2 and hand the masks to the original one."""

    policy = STOCK

    def __init__(self, model: Sa2VA, original: Sam2, options: Options) -> None:
        """Check that both see the same pixels.

        Raises:
            ValueError: the two have different input sizes.
        """
        if original.size != model.sam2.size:
            raise ValueError(
                f"the original SAM 2 reads {original.size} px and the model's {model.sam2.size} px; "
                "give the SAM 2 that the model was trained from"
            )
        super().__init__(model, options)
        self._original = original

    @property
    def sam2(self) -> Sam2:
        return self._original

    def draw(
        self, seg_states: Tensor, features: FrameFeatures, sam_pixel_values: Tensor, frames: Frames
    ) -> tuple[MaskOutput, Tensor | None]:
        """Draw the objects, cut them out at the frames' own size and give them as masks; see `Prompter.draw`."""
        parameter = next(self.model.parameters())
        tuned = self.model.sam2.encode_frames(sam_pixel_values.to(parameter.device, parameter.dtype))
        spoken = self.speak(seg_states, tuned)
        gate = self.model.config.gate_absent
        masks = to_masks(self.model.sam2, spoken, frames.shape[1:3], self.options.mask_threshold, gate)
        given = self.sam2.squeeze_masks(torch.from_numpy(masks).to(features.embeds.device))
        rows = torch.arange(len(frames), device=features.embeds.device).repeat(len(seg_states))  # (N * K,)
        taken = self.sam2.take_masks(features.select(rows), given)
        # A given mask counts as certain; the decoder that drew it knows better.
        return replace(taken, candidate_scores=spoken.scores[:, None].to(given.device)), given
