"""Write drawn clips in the layout of MeViS: expressions of motion, of one object, several or none.

Flow: samples of video_refseg -> <split>/{meta_expressions.json, mask_dict.json, JPEGImages/<clip>/*.jpg}.
Source: the layout that data/mevis.py reads. As published, valid and test have neither objects nor masks, and the
    expressions of test lie in meta_expressions_release.json.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sa2va.types import Sample
from sa2va.world.export.clips import draw_samples, names_one, names_one_and_none, write_clips
from sa2va.world.export.files import write_json
from sa2va.world.export.layout import Layout, Part

FOLDER = "video_datas/mevis"
BLOCK = 0
ON_SERVER = ("valid", "test")


def draw(part: Part) -> Iterator[tuple[int, Sample]]:
    """Draw the samples of a part; clips of evaluation have an expression of an absent object."""
    return draw_samples(part, BLOCK, names_one if part.is_training else names_one_and_none)


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write MeViS below a data root."""
    for part in parts:
        folder = root / FOLDER / part.name
        videos: dict[str, Any] = {}
        masks: dict[str, Any] = {}
        for clip in write_clips(draw(part), folder / "JPEGImages", "{:012x}"):
            if part.has_masks:
                masks |= clip.tracks()
            expressions = {
                str(place): {"exp": one.text} | (clip.annotate(one) if part.has_masks else {})
                for place, one in enumerate(clip.expressions)
            }
            videos[clip.name] = {"vid_id": clip.number, "frames": clip.frames, "expressions": expressions}
        name = "meta_expressions_release.json" if part.name == "test" else "meta_expressions.json"
        write_json(folder / name, {"videos": videos})
        if part.has_masks:
            write_json(folder / "mask_dict.json", masks)


MEVIS = Layout(write, (FOLDER,), ("mevis",), ("train", "valid_u", *ON_SERVER), ON_SERVER)
