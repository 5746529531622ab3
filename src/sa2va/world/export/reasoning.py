"""Ask for objects of a drawn scene in questions that need more than its attributes.

Flow: sample of refseg or video_refseg -> ask_for_objects -> revos.py, reasonseg.py. The questions end with a request
    for a mask: elsewhere in a mixture the same questions are answered in words.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from sa2va.types import Sample
from sa2va.world.language.questions import ask
from sa2va.world.tasks.items import is_clip

QUESTION = "question"
KINDS = ("relation", "ordinal", "superlative", "negation")
CLIP_KINDS = (*KINDS, "motion")
REQUEST = "{} Answer with a mask."


@dataclass(frozen=True)
class ObjectQuestion:
    """A question whose answer is one object."""

    text: str
    objects: tuple[int, ...]


def ask_for_objects(sample: Sample, seed: int) -> list[ObjectQuestion]:
    """Write the questions about a sample: its expressions that need reasoning, and comparisons or motions.

    Args:
        sample: of refseg or video_refseg.
        seed: random seed of the scenes.

    Returns:
        Distinct questions, possibly none.
    """
    meta, task = sample.meta, sample.task.removeprefix("world/")
    moving = is_clip(task)
    written = zip(meta["kinds"], meta["targets"], meta["expressions"], strict=True)
    kinds = CLIP_KINDS if moving else KINDS
    texts = {
        f"Which object is {text}?": tuple(targets)
        for kind, targets, text in written
        if kind in kinds and len(targets) == 1
    }
    rng = np.random.default_rng([seed, meta["index"], crc32(f"{task}/{QUESTION}".encode())])
    for one in ask(meta["scene"], rng, 2, moving=moving, kinds=("who moves",) if moving else ("larger or smaller",)):
        texts[one.text] = one.targets
    return [ObjectQuestion(REQUEST.format(text), objects) for text, objects in texts.items()]
