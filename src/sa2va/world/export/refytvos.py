"""Write drawn clips in the layouts of Refer-YouTube-VOS and Ref-DAVIS17: one object per expression.

Flow: samples of video_refseg -> meta_expressions/<split>/meta_expressions.json, <split>/JPEGImages/<clip>/*.jpg, and
    masks as index pictures (<split>/Annotations/<clip>/*.png) or as mask_dict.pkl.
Source: the layouts that data/refytvos.py and data/davis.py read. The released training of Refer-YouTube-VOS and the
    released evaluation of Ref-DAVIS17 have mask_dict.pkl. As published, Refer-YouTube-VOS valid has neither objects nor
    masks.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from sa2va.data.plain_pickle import write_plain_pickle
from sa2va.world.export.clips import Said, WrittenClip, draw_samples, write_clips
from sa2va.world.export.files import write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.language.expressions import CLIP_KINDS, expressions
from sa2va.world.scenes.scene import COLORS

REFYTVOS_FOLDER, DAVIS_FOLDER = "video_datas/rvos", "video_datas/davis17"
REFYTVOS_BLOCK, DAVIS_BLOCK = 2, 3
INDEX_PICTURES = "Annotations"
NUM_ANNOTATORS = 4  # descriptions of each object of Ref-DAVIS17
_SINGLE = tuple(kind for kind in CLIP_KINDS if kind not in ("group", "absent"))
_PALETTE = [0, 0, 0, *(level for color in COLORS.values() for level in color)]


def find_single(clip: WrittenClip, part: Part) -> list[Said]:
    """List the expressions of a clip that name one object."""
    return [one for one in clip.expressions if len(one.objects) == 1]


def describe_each(clip: WrittenClip, part: Part) -> list[Said]:
    """Write four expressions for each object that can be told apart, as the annotators of Ref-DAVIS17 did.

    An object with fewer has its expressions repeated.
    """
    scene = clip.sample.meta["scene"]
    rng = np.random.default_rng([part.scenes.seed, clip.sample.meta["index"], crc32(b"annotators")])
    found = []
    for place in range(len(scene.objects)):
        written = expressions(scene, rng, NUM_ANNOTATORS, kinds=_SINGLE, moving=True, only=[place])
        texts = [one.text for one in written if one.targets == (place,)]
        found += [Said(texts[i % len(texts)], "", (place,)) for i in range(NUM_ANNOTATORS) if texts]
    return found


def _write(
    folder_name: str,
    block: int,
    list_expressions: Callable[[WrittenClip, Part], list[Said]],
    masks_of: Mapping[str, str],
    root: Path,
    parts: Sequence[Part],
) -> None:
    """Write one of the layouts.

    Args:
        folder_name: its place below the root.
        block: see `Part.draw`.
        list_expressions: lists the expressions of a clip, each of one object.
        masks_of: split -> form of its masks: INDEX_PICTURES, or the place of mask_dict.pkl.
        root: root of the data.
        parts: splits to write.
    """
    folder = root / folder_name
    for part in parts:
        split, form = folder / part.name, masks_of[part.name] if part.has_masks else ""
        videos: dict[str, Any] = {}
        listed: dict[str, Any] = {}
        masks: dict[str, Any] = {}
        for clip in write_clips(draw_samples(part, block), split / "JPEGImages", "{:010x}"):
            said = list_expressions(clip, part)
            written = {
                str(i): {"exp": one.text} | ({"obj_id": str(one.objects[0] + 1)} if form else {})
                for i, one in enumerate(said)
            }
            videos[clip.name] = {"frames": clip.frames, "expressions": written}
            if form == INDEX_PICTURES:
                listed[clip.name] = {"objects": _list_objects(clip)}
                _write_index_masks(split / INDEX_PICTURES / clip.name, clip)
            elif form:
                tracks = clip.tracks()
                for name in sorted(written):  # keys count the expressions, each clip's by their ids as texts
                    masks[str(len(masks))] = tracks[str(clip.annotation(said[int(name)].objects[0]))]
        write_json(folder / "meta_expressions" / part.name / "meta_expressions.json", {"videos": videos})
        if form == INDEX_PICTURES:
            write_json(split / "meta.json", {"videos": listed})
        elif form:
            write_plain_pickle(folder / form, masks)


def _list_objects(clip: WrittenClip) -> dict[str, Any]:
    """List each object of a clip by its number, with the frames that show it."""
    return {
        str(place + 1): {
            "category": thing.shape,
            "frames": [name for name, mask in zip(clip.frames, masks, strict=True) if mask.any()],
        }
        for place, (thing, masks) in enumerate(zip(clip.sample.meta["scene"].objects, clip.sample.masks, strict=True))
    }


def _write_index_masks(folder: Path, clip: WrittenClip) -> None:
    """Write a picture per frame whose pixels are the numbers of the objects, 0 for the background."""
    numbers = np.arange(1, len(clip.sample.masks) + 1, dtype=np.uint8)[:, None, None]
    folder.mkdir(parents=True)
    for place, name in enumerate(clip.frames):
        picture = Image.fromarray((clip.sample.masks[:, place] * numbers).max(0))
        picture.putpalette(_PALETTE)
        picture.save(folder / f"{name}.png")


def _layout(
    dataset: str,
    folder: str,
    block: int,
    list_expressions: Callable[[WrittenClip, Part], list[Said]],
    masks_of: Mapping[str, str],
    on_server: tuple[str, ...] = (),
) -> Layout:
    write = partial(_write, folder, block, list_expressions, masks_of)
    return Layout(write, (folder,), (dataset,), tuple(masks_of), on_server)


REFYTVOS = _layout(
    "refytvos", REFYTVOS_FOLDER, REFYTVOS_BLOCK, find_single,
    {"train": "mask_dict.pkl", "valid": INDEX_PICTURES}, ("valid",),
)  # fmt: skip
DAVIS = _layout(
    "ref_davis17", DAVIS_FOLDER, DAVIS_BLOCK, describe_each,
    {"train": INDEX_PICTURES, "valid": "valid/mask_dict.pkl"},
)  # fmt: skip
