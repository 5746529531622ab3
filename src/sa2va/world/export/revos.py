"""Write drawn clips in the layout of ReVOS: expressions, reasoning questions, and absent objects.

Flow: samples of video_refseg, questions of reasoning.py -> {meta_expressions_{train,valid}_.json, mask_dict.json,
    mask_dict_foreground.json, world/<clip>/<frame>.jpg}.
Source: the layout that data/revos.py reads; type_id is 0 for expressions, 1 for questions, 2 for absent objects.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sa2va.masks import encode_rle
from sa2va.types import Sample
from sa2va.world.export.clips import Said, draw_samples, names_one, names_one_and_none, write_clips
from sa2va.world.export.files import write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.reasoning import QUESTION, ask_for_objects

FOLDER = "video_datas/revos"
BLOCK = 1
REFERRING, REASONING, ABSENT = 0, 1, 2


def draw(part: Part) -> Iterator[tuple[int, Sample]]:
    """Draw the samples of a part; clips of evaluation have expressions of every type."""

    def has_every_type(sample: Sample) -> bool:
        return names_one_and_none(sample) and bool(ask_for_objects(sample, part.scenes.seed))

    return draw_samples(part, BLOCK, names_one if part.is_training else has_every_type)


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write ReVOS below a data root."""
    folder = root / FOLDER
    masks: dict[str, Any] = {}
    foreground: dict[str, Any] = {}
    for part in parts:
        videos: dict[str, Any] = {}
        for clip in write_clips(draw(part), folder, "world/{:06d}"):
            masks |= clip.tracks()
            foreground[clip.name] = {"masks_rle": [encode_rle(mask) for mask in np.any(clip.sample.masks, 0)]}
            questions = ask_for_objects(clip.sample, part.scenes.seed)
            asked = [Said(one.text, QUESTION, one.objects) for one in questions]
            expressions = {
                str(place): {
                    "exp": one.text,
                    **clip.annotate(one),
                    "type_id": REASONING if one.kind == QUESTION else REFERRING if one.objects else ABSENT,
                }
                for place, one in enumerate([*clip.expressions, *asked])
            }
            videos[clip.name] = {
                "vid_id": clip.number, "source": "world", **clip.size, "frames": clip.frames,
                "expressions": expressions,
            }  # fmt: skip
        write_json(folder / f"meta_expressions_{part.name}_.json", {"videos": videos})
    write_json(folder / "mask_dict.json", masks)
    write_json(folder / "mask_dict_foreground.json", foreground)


REVOS = Layout(write, (FOLDER,), ("revos",), ("train", "valid"))
