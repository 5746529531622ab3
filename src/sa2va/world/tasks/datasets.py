"""Wrap each task of the drawn world as an endless dataset.

Flow: world/extension.py names a function of this file -> options -> Generated -> training.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from sa2va.data.base import Dataset, Generated
from sa2va.types import Sample
from sa2va.world.tasks import catalog as tasks


def build_dataset(task: Callable[..., Sample], *, seed: int = 0, split: str = "train", **options: Any) -> Dataset:
    """Wrap one task as an endless dataset.

    Args:
        task: a function of catalog.TASKS.
        seed: random seed of the scenes.
        split: "train" shows no held-out pair; any other name does in some scenes.
        options: passed on to the task ("num_turns", "kind", ...).
    """
    return Generated(partial(task, seed, split, **options))


caption = partial(build_dataset, tasks.caption)
conversation = partial(build_dataset, tasks.conversation)
refseg = partial(build_dataset, tasks.refseg)
gcg = partial(build_dataset, tasks.gcg)
region = partial(build_dataset, tasks.region)
video_caption = partial(build_dataset, tasks.video_caption)
video_conversation = partial(build_dataset, tasks.video_conversation)
video_refseg = partial(build_dataset, tasks.video_refseg)
