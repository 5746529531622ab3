"""Write drawn clips in the layout of ReVOS: expressions, reasoning questions, and absent objects.

Flow: samples of video_refseg, questions of reasoning.py -> {meta_expressions_{train,valid}_.json, mask_dict.json,
    mask_dict_foreground.json, world/<clip>/<frame>.jpg}.
Source: the layout that data/revos.py reads; type_id is 0 for expressions, 1 for questions, 2 for absent objects.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sa2va.masks import encode_rle
from sa2va.world.export.clips import Said, draw_clips
from sa2va.world.export.files import write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.reasoning import QUESTION, ask_for_objects

FOLDER = "video_datas/revos"
BLOCK = 1
REFERRING, REASONING, ABSENT = 0, 1, 2


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write ReVOS below a data root."""
    folder = root / FOLDER
    masks: dict[str, Any] = {}
    foreground: dict[str, Any] = {}
    for part in parts:
        videos: dict[str, Any] = {}
        for clip in draw_clips(part, folder, BLOCK, "world/{:06d}"):
            masks |= clip.tracks()
            foreground[clip.name] = {"masks_rle": [encode_rle(mask) for mask in np.any(clip.sample.masks, 0)]}
            asked = [Said(one.text, QUESTION, one.objects) for one in ask_for_objects(clip.sample, part.seed)]
            expressions = {
                str(place): {
                    "exp": one.text,
                    "obj_id": list(one.objects),
                    "anno_id": [clip.annotation(index) for index in one.objects],
                    "type_id": REASONING if one.kind == QUESTION else REFERRING if one.objects else ABSENT,
                }
                for place, one in enumerate([*clip.expressions, *asked])
            }
            videos[clip.name] = {
                "vid_id": clip.number, "source": "world", **clip.size, "frames": clip.frames,
                "expressions": expressions,
            }  # fmt: skip
        name = "train" if part.is_training else "valid"
        write_json(folder / f"meta_expressions_{name}_.json", {"videos": videos})
    write_json(folder / "mask_dict.json", masks)
    write_json(folder / "mask_dict_foreground.json", foreground)


REVOS = Layout(write, (FOLDER,), ("revos",))
