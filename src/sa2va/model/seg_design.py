"""Define how mask tokens map to frames: a shared [SEG], [SEG] repeated per frame, or a distinct token per frame.

Flow: Sa2VAConfig.seg_design -> SegDesign -> processor.py (tokens of an answer, rows of a batch) and inference/ (states
    grouped by object).
Source: Sa2VA, arXiv:2501.04001, table of [SEG] designs; the released models share one [SEG] among all frames.
Shapes: N objects, K frames, M mask tokens = N times 1 or K, R = N * K masks to decode.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from sa2va.tokens import SEG_TOKEN


class SegDesign(ABC):
    """Base of the [SEG] designs; a subclass defines the mask tokens of an object."""

    @abstractmethod
    def object_tokens(self, num_frames: int) -> tuple[str, ...]:
        """Return the mask tokens of one object on K frames, in order: one for all frames, or one per frame."""

    def added_tokens(self, num_frames: int) -> tuple[str, ...]:
        """Return the tokens for up to K frames that a tokenizer needs in addition to [SEG]."""
        return tuple(token for token in dict.fromkeys(self.object_tokens(num_frames)) if token != SEG_TOKEN)

    def seg_rows(self, num_objects: int, num_frames: int) -> Tensor:
        """List the masks to decode: (R, 3) long, state index, frame index and object, grouped by object."""
        objects = torch.arange(num_objects).repeat_interleave(num_frames)
        frames = torch.arange(num_frames).repeat(num_objects)
        per_frame = len(self.object_tokens(num_frames)) > 1
        states = objects * num_frames + frames if per_frame else objects
        return torch.stack([states, frames, objects], dim=1)

    def group_tokens(self, tokens: Sequence[str], num_frames: int) -> list[list[int]]:
        """Group the mask tokens of an answer by object.

        Args:
            tokens: mask tokens in the order of the answer.
            num_frames: K.

        Returns:
            For each object the indices of its tokens in `tokens`. An object with an incomplete group is left out.
        """
        wanted, groups, group = self.object_tokens(num_frames), [], list[int]()
        for place, token in enumerate(tokens):
            if token != wanted[len(group)]:
                group = []
            if token == wanted[len(group)]:
                group.append(place)
            if len(group) == len(wanted):
                groups.append(group)
                group = []
        return groups


class Single(SegDesign):
    """One [SEG] per object, whose state prompts SAM 2 on every frame: the released design."""

    def object_tokens(self, num_frames: int) -> tuple[str, ...]:
        return (SEG_TOKEN,)


class Repeat(SegDesign):
    """[SEG] repeated once per frame."""

    def object_tokens(self, num_frames: int) -> tuple[str, ...]:
        return (SEG_TOKEN,) * num_frames


class Multiple(SegDesign):
    """A distinct token per frame: [SEG_1], [SEG_2], ..."""

    def object_tokens(self, num_frames: int) -> tuple[str, ...]:
        return tuple(f"[SEG_{number}]" for number in range(1, num_frames + 1))


SEG_DESIGNS: dict[str, SegDesign] = {"single": Single(), "repeat": Repeat(), "multiple": Multiple()}


def one_frame_rows(frames: Tensor) -> Tensor:
    """List one mask per state, on the given frame: (N,) frames -> (N, 3) as `SegDesign.seg_rows`."""
    states = torch.arange(len(frames), device=frames.device)
    return torch.stack([states, frames, states], dim=1)
