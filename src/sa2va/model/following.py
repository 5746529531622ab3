"""Track the objects of a training batch from their key frames through other frames.

Flow: masks on key frames (sa2va.py), Tracks -> choose_prompts -> Tracker -> masks on tracked frames -> losses.
Source: Sa2VA, arXiv:2501.04001, trains without memory; tracking in training as at inference is our own.
Shapes: n tracked objects, K key frames, T tracked frames.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sa2va.model.batch import Tracks
from sa2va.model.losses import candidate_ious
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput, Sam2
from sa2va.model.sam.tracker import Tracker


def choose_prompts(output: MaskOutput, num_frames: int, share: float) -> list[Tensor]:
    """Select, per object, the key frames whose masks prompt SAM 2's memory.

    One [SEG] represents the object on all key frames. The state of a tiny model may encode the object's location on
    only one of them. If the object moves, its masks on the other key frames are wrong and have low scores.

    Args:
        output: N * K masks, grouped by object.
        num_frames: K.
        share: least ratio of a key frame's score to the object's best score, 0..1.

    Returns:
        Per key frame the selected rows of `output`; every object is selected on at least one frame.
    """
    scores = output.scores.view(-1, num_frames)
    sure = scores >= share * scores.amax(1, keepdim=True)
    return [torch.nonzero(sure[:, k])[:, 0] * num_frames + k for k in range(num_frames)]


@torch.no_grad()
def find_objects(tracks: Tracks, output: MaskOutput, targets: Tensor, least_iou: float) -> Tracks:
    """Keep the objects whose mask on the highest-scoring key frame matches its target.

    A wrong prompt would train the memory to forget.

    Args:
        tracks: n objects.
        output: masks on the key frames of all objects of the batch.
        targets: (R, h, w) bool, targets of the same rows.
        least_iou: IoU with the target above which a mask matches.
    """
    best = output.scores[tracks.key_rows].argmax(1, keepdim=True)
    rows = tracks.key_rows.gather(1, best)[:, 0]
    ious = candidate_ious(output.select(rows).settled().candidates, targets[rows].float())[:, 0]
    found = torch.nonzero(ious > least_iou)[:, 0]
    fields = ("frame_index", "key_rows", "targets", "seeds")
    return replace(tracks, **{name: getattr(tracks, name)[found] for name in fields})


def follow_objects(
    sam2: Sam2, tracks: Tracks, frames: FrameFeatures, frame_rows: Tensor, output: MaskOutput, share: float
) -> MaskOutput:
    """Write the selected key frames to memory, then track.

    Args:
        sam2: decodes masks and encodes memories.
        tracks: n objects, at least one.
        frames: features of the key frames of the batch.
        frame_rows: (R,) index into `frames` of each row of `output`.
        output: masks on the key frames of all objects of the batch.
        share: see `choose_prompts`.

    Returns:
        n * T masks, grouped by frame.
    """
    number, num_keyframes = tracks.key_rows.shape
    tracker, decoded = Tracker(sam2), output.select(tracks.key_rows.flatten())
    for k, rows in enumerate(choose_prompts(decoded, num_keyframes, share)):
        if len(rows):
            ids = torch.div(rows, num_keyframes, rounding_mode="floor")
            seen = frames.select(frame_rows[tracks.key_rows[ids, k]])
            tracker.prompt(tracks.keyframes[k], seen, decoded.select(rows), ids=ids.tolist())
    ahead = sam2.encode_frames(tracks.pixel_values)
    ids: Sequence[int] = range(number)
    steps = [tracker.step(frame, ahead.select(tracks.frame_index[:, t]), ids) for t, frame in enumerate(tracks.frames)]
    return MaskOutput.concatenate(steps)


def nothing_to_follow(sam2: Sam2, targets: Tensor) -> Tracks:
    """Build one dummy object on blank frames, for a process without tracked objects when another process has some."""
    dtype = next(sam2.parameters()).dtype
    zero = torch.zeros(1, 1, dtype=torch.long, device=targets.device)
    return Tracks(
        keyframes=(0,),
        frames=(1,),
        pixel_values=torch.zeros(1, 3, sam2.size, sam2.size, dtype=dtype, device=targets.device),
        frame_index=zero,
        key_rows=zero,
        targets=torch.zeros_like(targets[:1])[None],
        seeds=zero,
    )
