"""Write drawn clips in the layout of MeViS: expressions of motion, of one object, several or none.

Flow: samples of video_refseg -> {train, valid_u}/{meta_expressions.json, mask_dict.json, JPEGImages/<clip>/*.jpg}.
Source: the layout that data/mevis.py reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sa2va.world.export.clips import draw_clips
from sa2va.world.export.files import write_json
from sa2va.world.export.layout import Layout, Part

FOLDER = "video_datas/mevis"
BLOCK = 0


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write MeViS below a data root; the validation part is valid_u, whose masks are public."""
    for part in parts:
        folder = root / FOLDER / ("train" if part.is_training else "valid_u")
        videos: dict[str, Any] = {}
        masks: dict[str, Any] = {}
        for clip in draw_clips(part, folder / "JPEGImages", BLOCK, "{:012x}"):
            masks |= clip.tracks()
            expressions = {
                str(place): {
                    "exp": one.text,
                    "obj_id": list(one.objects),
                    "anno_id": [clip.annotation(index) for index in one.objects],
                }
                for place, one in enumerate(clip.expressions)
            }
            videos[clip.name] = {"vid_id": clip.number, "frames": clip.frames, "expressions": expressions}
        write_json(folder / "meta_expressions.json", {"videos": videos})
        write_json(folder / "mask_dict.json", masks)


MEVIS = Layout(write, (FOLDER,), ("mevis",))
