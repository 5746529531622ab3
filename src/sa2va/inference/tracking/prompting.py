"""Draw what the language model means on some frames, as prompts for a tracker.

Flow: [SEG] states, key frames -> Prompter.draw -> MaskOutput -> Tracker.prompt; to_masks -> what the user gets.
Source: Sa2VA, arXiv:2501.04001: one SAM 2 draws and remembers, and a memory keeps how sure each pixel was.
Shapes: N objects, K frames, D MLLM width, H W picture, S SAM 2 input side, h w logit grid.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2va.inference.results import FrameObject, Options
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput, Sam2
from sa2va.model.sam.tracker import SOFT, TrackPolicy
from sa2va.types import Frames

MASKS_AT_ONCE = 8  # at the picture's size a mask's logits are large


@dataclass(frozen=True)
class Answer:
    """What the language model said, and the states that its masks come from."""

    text: str
    seg_states: Tensor  # (N, D)
    phrases: Sequence[str | None]  # of each object

    @staticmethod
    def join(answers: Sequence["Answer"], *names: str) -> "Answer":
        """Put the objects of several answers about the same frames together, in order; name them by answer."""
        if not answers:
            raise ValueError("prompt: expected a request, or a list with at least one")
        phrases = [answer.phrases for answer in answers]
        if names:
            phrases = [[name] * len(own) for name, own in zip(names, phrases, strict=True)]
        return Answer(
            "\n".join(answer.text for answer in answers),
            torch.cat([answer.seg_states for answer in answers]),
            [phrase for own in phrases for phrase in own],
        )


Ask = Callable[[Frames, str], Answer]  # frames (K, H, W, 3), expression


def to_masks(sam2: Sam2, output: MaskOutput, size: tuple[int, int], threshold: float, gate: bool) -> NDArray[np.bool_]:
    """Threshold the best candidates at the picture's size.

    Args:
        sam2: that decoded them.
        output: N masks.
        size: H, W.
        threshold: a pixel with a larger logit belongs to the mask.
        gate: whether an object that is not in the frame gets an empty mask.

    Returns:
        bool (N, H, W).
    """
    masks = np.empty((len(output.pointers), *size), bool)
    for start in range(0, len(masks), MASKS_AT_ONCE):
        rows = slice(start, start + MASKS_AT_ONCE)
        masks[rows] = (sam2.enlarge(output.mask_logits[rows], *size) > threshold).cpu().numpy()
    if gate:
        masks &= (output.presence_logits > 0).cpu().numpy()[:, None, None]
    return masks


class Prompter:
    """Draw with the model's own SAM 2, which then also tracks: the released way."""

    policy: TrackPolicy = SOFT

    def __init__(self, model: Sa2VA, options: Options) -> None:
        self.model, self.options = model, options

    @property
    def sam2(self) -> Sam2:
        """The SAM 2 that tracks."""
        return self.model.sam2

    def encode(self, sam_pixel_values: Tensor) -> FrameFeatures:
        """Run the tracking SAM 2's image encoder: (F, 3, S, S) -> features, on its device."""
        parameter = next(self.sam2.parameters())
        return self.sam2.encode_frames(sam_pixel_values.to(parameter.device, parameter.dtype))

    def speak(self, seg_states: Tensor, features: FrameFeatures) -> MaskOutput:
        """Decode N states on each of K frames, as in training: N * K rows, those of one state together."""
        rows = self.model.design.seg_rows(len(seg_states), len(features.embeds))
        return self.model.decode_masks(seg_states.flatten(0, -2), features, rows)

    def draw(
        self, seg_states: Tensor, features: FrameFeatures, sam_pixel_values: Tensor, frames: Frames
    ) -> tuple[MaskOutput, Tensor | None]:
        """Draw the objects on some frames.

        Args:
            seg_states: (N, D).
            features: of the K frames, by `encode`.
            sam_pixel_values: the same frames, (K, 3, S, S).
            frames: and as they are, (K, H, W, 3).

        Returns:
            N * K rows, those of one object together, and bool (N * K, S, S) where masks are given to the tracker.
        """
        return self.speak(seg_states, features), None

    def masks(self, output: MaskOutput, height: int, width: int) -> NDArray[np.bool_]:
        """Return what the user gets: (N, H, W)."""
        gate = self.model.config.gate_absent
        return to_masks(self.sam2, output, (height, width), self.options.mask_threshold, gate)

    def describe(
        self, found: Mapping[int, MaskOutput], phrases: Mapping[int, str | None], height: int, width: int
    ) -> tuple[FrameObject, ...]:
        """Describe the objects of one frame for the user.

        Args:
            found: by id, one row with one candidate each.
            phrases: by id.
            height, width: of the frame, px.
        """
        if not found:
            return ()
        output = MaskOutput.concatenate(list(found.values()))
        masks = self.masks(output, height, width)
        presence, scores = output.presence_logits.sigmoid().tolist(), output.scores.tolist()
        return tuple(
            FrameObject(id=key, phrase=phrases[key], presence=presence[row], score=scores[row], mask=masks[row])
            for row, key in enumerate(found)
        )
