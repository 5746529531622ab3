"""Write drawn pictures in the layout of ReasonSeg: one object per picture, asked for in questions or long phrases.

Flow: samples of refseg, questions of reasoning.py -> reason_seg/ReasonSeg/{train,val}/<picture>.jpg and .json.
Source: the layout that data/reasonseg.py reads; LISA, arXiv:2308.00692.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2va.types import Sample
from sa2va.world.export.files import write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.outlines import trace_pixels
from sa2va.world.export.reasoning import KINDS, ask_for_objects

FOLDER = "reason_seg/ReasonSeg"
BLOCK = 4  # of refseg


@dataclass(frozen=True)
class Reasoned:
    """An object of a picture with the texts that ask for it."""

    place: int
    texts: tuple[str, ...]
    is_sentence: bool  # questions; otherwise phrases


def choose_object(sample: Sample, seed: int) -> Reasoned | None:
    """Choose an object and its texts: questions in pictures of even index, phrases in the others.

    Returns:
        None if no text of the wanted form asks for a single object.
    """
    meta = sample.meta
    is_sentence = meta["index"] % 2 == 0
    if is_sentence:
        asked = [(one.text, one.objects) for one in ask_for_objects(sample, seed)]
    else:
        written = zip(meta["kinds"], meta["expressions"], meta["targets"], strict=True)
        asked = [(text, tuple(targets)) for kind, text, targets in written if kind in KINDS]
    single = [(text, objects) for text, objects in asked if len(objects) == 1]
    if not single:
        return None
    chosen = single[0][1]
    return Reasoned(chosen[0], tuple(text for text, objects in single if objects == chosen), is_sentence)


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write ReasonSeg below a data root."""
    for part in parts:
        folder = root / FOLDER / ("train" if part.is_training else "val")
        seed = part.seed
        drawn = part.draw("refseg", block=BLOCK, keep=lambda one, seed=seed: choose_object(one, seed), empty_share=0.0)
        for number, sample in drawn:
            chosen = choose_object(sample, seed)
            assert chosen is not None
            name = f"{number:08d}"
            write_jpeg(folder / f"{name}.jpg", sample.frames[0])
            shapes = [
                {
                    "label": "target",
                    "labels": ["target"],
                    "shape_type": "polygon",
                    "image_name": f"{name}.jpg",
                    "points": outline,
                    "group_ids": [None],
                    "group_id": None,
                    "flags": {},
                }
                for outline in trace_pixels(sample.masks[chosen.place, 0])
            ]
            record = {"text": list(chosen.texts), "is_sentence": chosen.is_sentence, "shapes": shapes}
            write_json(folder / f"{name}.json", record)


REASONSEG = Layout(write, (FOLDER,), ("reasonseg",))
