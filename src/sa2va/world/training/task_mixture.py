"""Define the sampling rates of the tasks in joint training.

Flow: config of a stage -> TaskShares -> CotrainData, which samples a group of tasks per step and a task per sample.
"""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, kw_only=True)
class TaskShares:
    """Shares of the steps by group of tasks; they sum to 1.

    Tasks of one group share a batch: their answers have similar lengths, and a batch without masks skips SAM 2.
    """

    region: float
    gcg: float
    refseg: float
    text: float
    video_refseg: float
    video_text: float

    def __post_init__(self) -> None:
        shares = [getattr(self, one.name) for one in fields(self)]
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"task shares {shares} sum to {sum(shares):.4g}; expected numbers >= 0 that sum to 1")


GROUPS: dict[str, dict[str, float]] = {  # the tasks of a group, with their shares of its samples
    "refseg": {"refseg": 1.0},
    "gcg": {"gcg": 1.0},
    "region": {"region": 1.0},
    "text": {"caption": 0.3, "conversation": 0.7},
    "video_refseg": {"video_refseg": 1.0},
    "video_text": {"video_conversation": 0.65, "video_caption": 0.35},
}
# Region description is the simplest task that needs visual tokens, so the language stage has more of it. Answers to
# segmentation requests teach no vocabulary.
LANGUAGE_SHARES = TaskShares(region=0.06, gcg=0.16, refseg=0.38, text=0.22, video_refseg=0.12, video_text=0.06)
COTRAIN_SHARES = TaskShares(region=0.05, gcg=0.15, refseg=0.33, text=0.18, video_refseg=0.20, video_text=0.09)
# Packed batches contain requests and comparisons, so the ordinary batches between them have more captions and clips.
BESIDE_PACKED_SHARES = TaskShares(region=0.05, gcg=0.15, refseg=0.22, text=0.14, video_refseg=0.27, video_text=0.17)
# After a stage about motion: masks of clips, since each key frame has a token of its own, and what it cost pictures.
REHEARSAL_SHARES = TaskShares(region=0.05, gcg=0.13, refseg=0.22, text=0.12, video_refseg=0.36, video_text=0.12)


def draw_tasks(
    shares: TaskShares, num_pictures: int, num_clips: int, rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Sample the group of tasks of a step, and the task of each of its samples."""
    names = [one.name for one in fields(shares)]
    group = str(rng.choice(names, p=[getattr(shares, name) for name in names]))
    tasks = GROUPS[group]
    number = num_clips if group.startswith("video") else num_pictures
    return group, [str(name) for name in rng.choice(list(tasks), number, p=list(tasks.values()))]
