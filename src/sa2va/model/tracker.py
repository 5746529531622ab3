"""Follow objects through frames with SAM 2's memory: bounded state, all objects in one batch.

Flow: sam2.py (features, prompted masks) -> Tracker.prompt / Tracker.step, frame by frame -> MaskOutput.
Source: SAM 2, arXiv:2408.00714, section 4: 6 recent memories, up to 15 recent pointers and the prompted frames.
Shapes: N objects, C width, g side of the coarsest grid, M memory tokens.
"""

from collections import deque

import torch
from torch import Tensor

from sa2va.model.sam2 import FrameFeatures, MaskOutput, Memory, Sam2


class Tracker:
    """Memory of N objects. Its size does not depend on how many frames have gone by."""

    def __init__(self, sam2: Sam2) -> None:
        config = sam2.native.config
        self._sam2 = sam2
        self._prompted: dict[int, Memory] = {}
        self._recent: deque[tuple[int, Memory]] = deque(maxlen=config.num_maskmem - 1)
        self._pointers: deque[tuple[int, Tensor]] = deque(maxlen=config.max_object_pointers_in_encoder - 1)

    def prompt(self, frame: int, features: FrameFeatures, output: MaskOutput) -> None:
        """Remember a frame whose masks came from a prompt.

        Args:
            frame: its index; may lie ahead of the frames tracked so far.
            features: of this one frame, F = 1.
            output: the masks decoded on it, N rows.
        """
        self._prompted[frame] = self._remember(features, output)

    def step(self, frame: int, features: FrameFeatures) -> MaskOutput:
        """Find all objects on the next frame, F = 1, and remember what was found."""
        if not self._prompted:
            raise ValueError("nothing to track: no frame has been prompted")
        num_objects = next(iter(self._prompted.values())).pointers.shape[0]
        embeds = self._condition(frame, features.embeds.expand(num_objects, -1, -1, -1))
        high_res = (
            features.high_res[0].expand(num_objects, -1, -1, -1),
            features.high_res[1].expand(num_objects, -1, -1, -1),
        )
        output = self._sam2.decode(embeds, high_res, self._sam2.language_prompt(None, num_objects))
        memory = self._remember(features, output)
        self._recent.append((frame, memory))
        self._pointers.append((frame, memory.pointers))
        return output

    def _remember(self, features: FrameFeatures, output: MaskOutput) -> Memory:
        num_objects = len(output.pointers)
        return self._sam2.encode_memory(features.embeds.expand(num_objects, -1, -1, -1), output)

    def _condition(self, frame: int, embeds: Tensor) -> Tensor:
        """Let features (N, C, g, g) read the memory."""
        native = self._sam2.native
        temporal = native.memory_temporal_positional_encoding  # (7, 1, 1, 64)
        features, positions = [], []
        for memory in self._prompted.values():
            features.append(memory.features)
            positions.append(memory.positions + temporal[-1])
        for index, memory in self._recent:  # oldest first
            offset = frame - index
            if offset < native.num_maskmem:
                features.append(memory.features)
                positions.append(memory.positions + temporal[offset - 1])
        pointers, pointer_positions = self._pointer_tokens(frame)
        n, c, g, _ = embeds.shape
        flat = embeds.flatten(2).permute(2, 0, 1)  # (N, C, g, g) -> (g*g, N, C)
        own_positions = native.vision_encoder.neck.position_encoding(embeds.shape, embeds.device, embeds.dtype)
        conditioned = native.memory_attention(
            current_vision_features=flat,
            current_vision_position_embeddings=own_positions.flatten(2).permute(2, 0, 1),
            memory=torch.cat([*features, pointers.to(features[0].dtype)]).to(embeds.dtype),
            memory_posision_embeddings=torch.cat([*positions, pointer_positions]),
            num_object_pointer_tokens=len(pointers),
        )
        # The native module gives (1, N, g*g, C) back, however its docstring reads.
        return conditioned.reshape(n, g * g, c).transpose(1, 2).reshape(n, c, g, g)

    def _pointer_tokens(self, frame: int) -> tuple[Tensor, Tensor]:
        """Split each pointer into tokens of the memory's width: tokens and positions, both (M, N, 64)."""
        native = self._sam2.native
        offsets = [frame - index for index in self._prompted if index <= frame]
        pointers = [memory.pointers for index, memory in self._prompted.items() if index <= frame]
        for index, pointer in reversed(self._pointers):  # newest first
            if frame - index < native.config.max_object_pointers_in_encoder:
                offsets.append(frame - index)
                pointers.append(pointer)
        reference = next(iter(self._prompted.values())).pointers
        if not pointers:
            empty = reference.new_zeros(0, len(reference), native.mem_dim)
            return empty, empty
        return native._process_object_pointers(
            offsets, pointers, native.config.max_object_pointers_in_encoder, *reference.shape, reference.device
        )
