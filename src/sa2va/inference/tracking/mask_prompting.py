"""Decode [SEG] states to masks on key frames, prompt a tracker with them, and convert masks to results.

Flow: [SEG] states, key frames -> MaskPrompting.decode -> MaskOutput -> Tracker.prompt;
    MaskOutput, of a picture or of a tracked frame -> describe -> FrameObject.
Source: Sa2VA, arXiv:2501.04001: one SAM 2 decodes and tracks, and the memory stores soft masks.
Shapes: N objects, K frames, D MLLM width, H W picture, S SAM 2 input side, h w logit grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sa2va.checkpoints.device import frames_at_once
from sa2va.inference.compiling import OFF, Compiler
from sa2va.inference.requests import Options
from sa2va.inference.results import FrameObject
from sa2va.model.pixels import SAM_MEAN, SAM_STD, normalize
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput, Sam2
from sa2va.model.sam.tracker import SOFT, Follow, TrackPolicy, track_frame
from sa2va.model.transfers import HostCopy, to_device
from sa2va.types import Frames

MASKS_AT_ONCE = 8  # full-size logits of many masks would take too much memory


@dataclass(frozen=True)
class GroundedAnswer:
    """Text of an answer, with the [SEG] states and the phrases of its objects."""

    text: str
    seg_states: Tensor  # (N, S, D); an object has S mask tokens, 1 or one per key frame (SegDesign)
    phrases: Sequence[str | None]  # one per object

    @staticmethod
    def join(answers: Sequence["GroundedAnswer"], *names: str) -> "GroundedAnswer":
        """Concatenate the objects of answers about the same key frames; `names` (one per answer) replace phrases."""
        phrases = [answer.phrases for answer in answers]
        if names:
            phrases = [[name] * len(own) for name, own in zip(names, phrases, strict=True)]
        return GroundedAnswer(
            "\n".join(answer.text for answer in answers),
            torch.cat([answer.seg_states for answer in answers]),
            [phrase for own in phrases for phrase in own],
        )


Ask = Callable[[Frames, str], GroundedAnswer]  # frames (K, H, W, 3), expression


def encode_frames(sam2: Sam2, sam_frames: Tensor, compiler: Compiler = OFF, ahead: int = 0) -> FrameFeatures:
    """Normalize and encode all frames at once on the device of a SAM 2: uint8 (F, S, S, 3) -> features.

    Args:
        sam2: the model.
        sam_frames: F frames.
        compiler: runs the encoder.
        ahead: see `Compiler.wrap`.
    """
    parameter = next(sam2.parameters())
    pixels = normalize(to_device(sam_frames, parameter.device), SAM_MEAN, SAM_STD).to(parameter.dtype)
    return compiler.wrap("image encoder", sam2.encode_frames, ahead=ahead)(pixels)


def encode_in_groups(sam2: Sam2, sam_frames: Tensor) -> FrameFeatures:
    """Run a SAM 2's image encoder on as many frames at once as suits its device: uint8 (F, S, S, 3) -> features."""
    groups = sam_frames.split(frames_at_once(next(sam2.parameters()).device))
    embeds, high_res = zip(*(encode_frames(sam2, group) for group in groups), strict=True)
    fine, middle = zip(*high_res, strict=True)
    return FrameFeatures(torch.cat(embeds), (torch.cat(fine), torch.cat(middle)))


class KeyFrames(NamedTuple):
    """Masks of N objects on K key frames, with the features of each."""

    features: list[FrameFeatures]  # K, F = 1 each, of the SAM 2 that tracks
    output: MaskOutput  # N * K masks, object by object
    given: Tensor | None  # mask prompts of the tracker, bool (N * K, S, S)


def fill_masks(
    sam2: Sam2, output: MaskOutput, size: tuple[int, int], threshold: float, gate: bool, found: Tensor | None = None
) -> Tensor:
    """Upsample the mask logits to the picture's size and threshold them.

    Args:
        sam2: the model that decoded the masks.
        output: N masks.
        size: H, W.
        threshold: a pixel with a larger logit belongs to the mask.
        gate: whether an object without presence in the frame gets an empty mask.
        found: bool (N, H, W), where to write; None = a new tensor.

    Returns:
        bool (N, H, W), on the device of the masks.
    """
    logits = output.mask_logits
    masks = torch.empty(len(logits), *size, dtype=torch.bool, device=logits.device) if found is None else found
    for part, into in zip(logits.split(MASKS_AT_ONCE), masks.split(MASKS_AT_ONCE), strict=True):
        torch.gt(sam2.enlarge(part, *size), threshold, out=into)
    if gate:
        masks &= (output.presence_logits > 0)[:, None, None]
    return masks


class MaskPrompting:
    """Mask prompting of the released Sa2VA: one SAM 2 decodes the [SEG] states and tracks."""

    policy: TrackPolicy = SOFT

    def __init__(self, model: Sa2VA, options: Options, compiler: Compiler = OFF, num_frames: int = 0) -> None:
        """Prepare to decode masks.

        Args:
            model: decodes the masks.
            options: threshold of the masks.
            compiler: runs the image encoder and the tracking step.
            num_frames: number of frames to track, as far as known.
        """
        self.model, self.options, self._compiler, self._num_frames = model, options, compiler, num_frames

    @property
    def sam2(self) -> Sam2:
        """The SAM 2 that tracks."""
        return self.model.sam2

    @property
    def runs_ahead(self) -> bool:
        """Whether the device works while the host goes on."""
        return next(self.sam2.parameters()).device.type != "cpu"

    def encode(self, sam_frames: Tensor) -> FrameFeatures:
        """Run the tracking SAM 2's image encoder: uint8 (F, S, S, 3) -> features."""
        return encode_frames(self.sam2, sam_frames, self._compiler, self._num_frames)

    @property
    def follow(self) -> Follow:
        """The tracking step, compiled where that pays."""
        return self._compiler.wrap("tracking step", track_frame, ahead=self._num_frames)

    def decode_states(self, seg_states: Tensor, features: FrameFeatures) -> MaskOutput:
        """Decode N objects on each of K frames, as in training: N * K rows, object by object."""
        rows = self.model.design.seg_rows(len(seg_states), len(features.embeds))
        return self.model.decode_masks(seg_states.flatten(0, -2), features, rows)

    def decode(
        self, seg_states: Tensor, features: FrameFeatures, sam_frames: Tensor, frames: Frames
    ) -> tuple[MaskOutput, Tensor | None]:
        """Decode the objects' masks on key frames.

        Args:
            seg_states: (N, S, D), see `GroundedAnswer`.
            features: of the K frames, by `encode`.
            sam_frames: the same frames, uint8 (K, S, S, 3).
            frames: the same frames at their own size, (K, H, W, 3).

        Returns:
            The masks, N * K rows, object by object; and the tracker's mask prompts, bool (N * K, S, S), or None.
        """
        return self.decode_states(seg_states, features), None

    def decode_keyframes(self, seg_states: Tensor, frames: Frames, processor: Processor) -> KeyFrames:
        """Encode key frames and decode the objects' masks on them, in groups of a size that suits the device.

        Args:
            seg_states: (N, S, D), see `GroundedAnswer`.
            frames: (K, H, W, 3).
            processor: of the model.
        """
        size = frames_at_once(seg_states.device)
        features: list[FrameFeatures] = []
        outputs, prompts = [], []
        for start in range(0, len(frames), size):
            group = slice(start, start + size)
            sam_frames = processor.sam_frames(frames[group])
            encoded = self.encode(sam_frames)
            states = seg_states if seg_states.shape[1] == 1 else seg_states[:, group]
            output, given = self.decode(states, encoded, sam_frames, frames[group])
            features += [encoded.select(slice(row, row + 1)) for row in range(len(sam_frames))]
            outputs.append(output)
            prompts += [] if given is None else [given]
        rows = torch.arange(len(seg_states) * len(frames)).view(-1, len(frames)).split(size, 1)
        order = torch.cat([own.flatten() for own in rows]).argsort().to(seg_states.device)  # back to object by object
        output = MaskOutput.concatenate(outputs).select(order)
        return KeyFrames(features, output, torch.cat(prompts)[order] if prompts else None)

    def describe(
        self, output: MaskOutput, ids: Sequence[int], phrases: Sequence[str | None], size: tuple[int, int]
    ) -> tuple[FrameObject, ...]:
        """Convert the masks of one frame to FrameObjects.

        Args:
            output: N masks.
            ids: of the N objects.
            phrases: of the N objects.
            size: H, W of the frame.
        """
        return self.begin(output, ids, phrases, size)()

    def begin(
        self, output: MaskOutput, ids: Sequence[int], phrases: Sequence[str | None], size: tuple[int, int]
    ) -> Callable[[], tuple[FrameObject, ...]]:
        """Start `describe` without waiting for the device; the returned function waits, once, and finishes it."""
        number, options, gate = len(output.pointers), self.options, self.model.config.gate_absent
        scores = torch.stack([output.presence_logits.sigmoid(), output.scores])  # float32 (2, N)
        packed = torch.empty(scores.nbytes + number * size[0] * size[1], dtype=torch.uint8, device=scores.device)
        packed[: scores.nbytes] = scores.view(torch.uint8).flatten()
        masks = packed[scores.nbytes :].view(torch.bool).view(number, *size)
        fill_masks(self.sam2, output, size, options.mask_threshold, gate, masks)
        copy, split = HostCopy(packed), scores.nbytes

        def finish() -> tuple[FrameObject, ...]:
            host = copy.read().numpy()
            presence, score = host[:split].view(np.float32).reshape(2, number).tolist()
            masks = host[split:].view(bool).reshape(number, *size)
            return tuple(
                FrameObject(id=ids[row], phrase=phrases[row], presence=presence[row], score=score[row], mask=mask)
                for row, mask in enumerate(masks)
            )

        return finish
