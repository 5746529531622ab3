"""Follow objects of a training batch from their key frames through frames in between.

Flow: masks on key frames (sa2va.py), Tracks -> choose_prompts -> Tracker -> masks on the frames after -> losses.
Source: Sa2VA, arXiv:2501.04001, trains without memory; following the way a clip is predicted is our own.
Shapes: n followed objects, K key frames, T followed frames.
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
    """Choose on which of its key frames each object prompts SAM 2's memory.

    One [SEG] stands for the object on all key frames, but a tiny model puts into it where the object is on one
    of them; once it has moved, the others show something else. Their own scores tell.

    Args:
        output: N * K masks, those of one object together.
        num_frames: K.
        share: of an object's best score that a key frame must have.

    Returns:
        For each of the K frames the rows of `output` that count there; every object counts somewhere.
    """
    scores = output.scores.view(-1, num_frames)
    sure = scores >= share * scores.amax(1, keepdim=True)
    return [torch.nonzero(sure[:, k])[:, 0] * num_frames + k for k in range(num_frames)]


@torch.no_grad()
def find_objects(tracks: Tracks, output: MaskOutput, targets: Tensor, least_iou: float) -> Tracks:
    """Keep the objects that their surest key frame shows; a wrong prompt would teach the memory to forget.

    Args:
        tracks: n objects.
        output: masks on the key frames of all objects of the batch.
        targets: (R, h, w) bool, of the same rows.
        least_iou: real IoU from which an object counts as shown.
    """
    surest = output.scores[tracks.key_rows].argmax(1, keepdim=True)
    rows = tracks.key_rows.gather(1, surest)[:, 0]
    ious = candidate_ious(output.select(rows).settled().candidates, targets[rows].float())[:, 0]
    found = torch.nonzero(ious > least_iou)[:, 0]
    fields = ("frame_index", "key_rows", "targets", "seeds")
    return replace(tracks, **{name: getattr(tracks, name)[found] for name in fields})


def follow_objects(
    sam2: Sam2, tracks: Tracks, frames: FrameFeatures, frame_rows: Tensor, output: MaskOutput, share: float
) -> MaskOutput:
    """Prompt the memory on sure key frames, then track.

    Args:
        sam2: that draws and remembers.
        tracks: n objects, at least one.
        frames: features of the key frames of the batch.
        frame_rows: (R,) which of them each row of `output` is drawn on.
        output: masks on the key frames of all objects of the batch.
        share: see `choose_prompts`.

    Returns:
        n * T masks, those of one frame together.
    """
    number, num_keyframes = tracks.key_rows.shape
    tracker, drawn = Tracker(sam2), output.select(tracks.key_rows.flatten())
    for k, rows in enumerate(choose_prompts(drawn, num_keyframes, share)):
        if len(rows):
            ids = torch.div(rows, num_keyframes, rounding_mode="floor")
            seen = frames.select(frame_rows[tracks.key_rows[ids, k]])
            tracker.prompt(tracks.keyframes[k], seen, drawn.select(rows), ids=ids.tolist())
    ahead = sam2.encode_frames(tracks.pixel_values)
    ids: Sequence[int] = range(number)
    steps = [tracker.step(frame, ahead.select(tracks.frame_index[:, t]), ids) for t, frame in enumerate(tracks.frames)]
    return MaskOutput.concatenate(steps)


def nothing_to_follow(sam2: Sam2, targets: Tensor) -> Tracks:
    """Build one object on blank frames, for a process that has none where another one has."""
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
