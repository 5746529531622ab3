"""Track the objects of an answer through a clip, frame by frame.

Flow: predictor.py ([SEG] states, key frames) -> TrackSession -> FrameResult, one per frame, in constant memory.
Source: SAM 2, arXiv:2408.00714; Sa2VA-i, arXiv:2509.19082, for key frames spread over the whole clip.
Shapes: N objects, K key frames, D MLLM width, H W picture, S SAM 2 input side, h w logit grid.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sa2va.media import Media, open_media, uniform_indices
from sa2va.model.config import KEYFRAME_CHOICES
from sa2va.model.processor import Processor
from sa2va.model.results import FrameObject, FrameResult, Options
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam2 import FrameFeatures, MaskOutput
from sa2va.model.tracker import Tracker
from sa2va.types import Frames


def choose_keyframes(media: Media, choice: str, number: int) -> tuple[list[int], Frames, Media]:
    """Pick the frames that the MLLM reads.

    Args:
        media: a source without a length can only give its first frames.
        choice: "uniform" over the whole clip, or "first".
        number: K, at most.

    Returns:
        Their indices, the frames (K, H, W, 3), and a media that still has all frames to give.
    """
    if choice not in KEYFRAME_CHOICES:
        raise ValueError(f"keyframes {choice!r} is unknown; use one of {', '.join(KEYFRAME_CHOICES)}")
    if media.num_frames is not None:
        last = range(min(number, media.num_frames))
        indices = uniform_indices(media.num_frames, number) if choice == "uniform" else list(last)
        return indices, media.frames(indices), media
    frames = iter(media)
    first = [frame for _, frame in zip(range(number), frames, strict=False)]
    return list(range(len(first))), np.stack(first), open_media(chain(first, frames), fps=media.fps)


def enlarge(mask_logits: Tensor, sam_size: int, height: int, width: int) -> Tensor:
    """Bring logits (N, h, w) to the picture's size (N, H, W).

    Twice bilinear, through SAM 2's own size, as in the released model: one resize moves boundary pixels.
    """
    square = F.interpolate(mask_logits[:, None].float(), (sam_size, sam_size), mode="bilinear")
    return F.interpolate(square, (height, width), mode="bilinear")[:, 0]


def to_masks(model: Sa2VA, output: MaskOutput, height: int, width: int, options: Options) -> NDArray[np.bool_]:
    """Threshold the best candidates at the picture's size: (N, H, W)."""
    logits = enlarge(output.mask_logits, model.sam2.size, height, width)
    masks = logits > options.mask_threshold
    if model.config.gate_absent:
        masks &= (output.presence_logits > 0)[:, None, None]
    return masks.cpu().numpy()


class TrackSession:
    """The frames of a clip with the masks of N objects, computed as they are asked for. Iterate once.

    Attributes:
        text: the answer that the objects come from.
        presence: (N,) of each object over its prompted frames, 0..1.
    """

    def __init__(
        self,
        model: Sa2VA,
        processor: Processor,
        media: Media,
        seg_states: Tensor,
        keyframes: tuple[Sequence[int], Frames],
        answer: tuple[str, Sequence[str | None]],
        options: Options,
    ) -> None:
        """Prompt the key frames.

        Args:
            model: in eval mode.
            processor: its processor.
            media: gives every frame, once.
            seg_states: (N, D); N = 0 tracks nothing.
            keyframes: K indices and their frames (K, H, W, 3).
            answer: text and the phrase of each object.
            options: of the prediction.
        """
        self._model, self._processor, self._options = model, processor, options
        self.media = media
        self.text, self._phrases = answer
        self._tracker = Tracker(model.sam2)
        self._prompted: dict[int, MaskOutput] = {}
        self.presence = torch.zeros(len(seg_states))
        if len(seg_states):
            self._prompt(seg_states, *keyframes)

    @torch.no_grad()
    def _prompt(self, seg_states: Tensor, indices: Sequence[int], frames: Frames) -> None:
        features = self._encode(frames)
        number = len(indices)
        seg_frames = torch.arange(number, device=seg_states.device).expand(len(seg_states), -1)  # (N, K)
        output = self._model.decode_masks(seg_states, features, seg_frames)
        for k, index in enumerate(indices):
            one = output.select(slice(k, None, number))  # (N,) rows of this key frame
            self._prompted[index] = one
            self._tracker.prompt(index, features.select(slice(k, k + 1)), one)
        self.presence = output.presence_logits.reshape(-1, number).max(1).values.sigmoid().cpu()

    def _encode(self, frames: Frames) -> FrameFeatures:
        parameter = next(self._model.parameters())
        pixels = self._processor.sam_pixel_values(frames).to(parameter.device, parameter.dtype)
        return self._model.sam2.encode_frames(pixels)

    @torch.no_grad()
    def _masks(self, index: int, frame: NDArray[np.uint8]) -> MaskOutput:
        if index in self._prompted:
            return self._prompted[index]
        return self._tracker.step(index, self._encode(frame[None]))

    def __iter__(self) -> Iterator[FrameResult]:
        times = self.media.times
        for index, frame in enumerate(self.media):
            time = float(times[index]) if times is not None else index / self.media.fps
            objects: tuple[FrameObject, ...] = ()
            if self._prompted:
                objects = self._describe(self._masks(index, frame), *frame.shape[:2])
            yield FrameResult(index=index, time=time, objects=objects)

    def _describe(self, output: MaskOutput, height: int, width: int) -> tuple[FrameObject, ...]:
        masks = to_masks(self._model, output, height, width, self._options)
        presence = output.presence_logits.sigmoid().tolist()
        scores = output.scores.tolist()
        return tuple(
            FrameObject(id=n + 1, phrase=phrase, presence=presence[n], score=scores[n], mask=masks[n])
            for n, phrase in enumerate(self._phrases)
        )
