"""Read COCO panoptic: every category of a picture by its name, a mask per thing, one for all of a stuff.

Flow: <folder>/annotations/panoptic_<split>2017.json and its folder of PNGs, pictures in <folder>/<split>2017 -> one
    record per picture -> Sample.
Source: Kirillov et al., arXiv:1801.00868; https://cocodataset.org, "Panoptic Segmentation": a pixel's segment is
    R + 256 G + 65536 B, 0 is no segment. Categories with a crowd are left out: its members have no masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sa2va.data.media_files import MediaFolders, StoredPicture
from sa2va.data.own.naming import normalize, pluralize
from sa2va.data.records import Record, index_by, read_object
from sa2va.data.referring import Expression, ReferredPicture, ReferringPictures
from sa2va.data.stored import DrawConfig, check_split, read_each
from sa2va.types import Masks

SPLITS = ("train", "val")
MATERIALS = ("brick", "stone", "tile", "wood")  # "wall-brick" is a brick wall


@dataclass(frozen=True)
class SegmentTracks:
    """Masks of M segments of a panoptic PNG, decoded on demand."""

    segments: Sequence[int]
    png: StoredPicture

    def __len__(self) -> int:
        return len(self.segments)

    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks:
        """Return masks of n segments on K frames, bool (n, K, H, W).

        Raises:
            ValueError: the PNG is damaged or differs in size from the picture.
        """
        ids = self.png.frames([0])[0] @ np.array([1, 1 << 8, 1 << 16])  # (H, W)
        wanted = np.array([self.segments[index] for index in objects], int)
        return np.repeat((ids == wanted[:, None, None])[:, None], len(frames), 1)


def coco_panoptic(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ReferringPictures:
    """Read the pictures.

    Args:
        path: folder with annotations and the pictures of both splits.
        split: "train" or "val".
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("coco_panoptic", split, SPLITS)
    file = Path(path, "annotations", f"panoptic_{split}2017.json")
    content = read_object(file)
    images = index_by(content.children("images", "image"), "id")
    categories = index_by(content.children("categories", "category"), "id")
    pictures, pngs = MediaFolders(Path(path, f"{split}2017")), MediaFolders(file.with_suffix(""))

    def read(record: Record) -> ReferredPicture | None:
        image = images.get(record.get("image_id", int))
        if image is None:
            raise record.error(f"there is no image {record.values['image_id']}")
        png = StoredPicture(pngs.find(record.text("file_name"), record), image.size())
        segments = record.children("segments_info", "segment")
        tracks = SegmentTracks(list(index_by(segments, "id")), png)
        picture = StoredPicture(pictures.find(image.text("file_name"), image), image.size())
        expressions = _name_segments(segments, categories)
        return ReferredPicture(file, image.values["id"], picture, tracks, expressions) if expressions else None

    records = read_each(read, content.children("annotations", "annotation"))
    return ReferringPictures("coco_panoptic", records, draw or DrawConfig())


def _name_segments(segments: Sequence[Record], categories: dict[int, Record]) -> tuple[Expression, ...]:
    """Write "the dog", "the dogs" or "the sky" for each category without a crowd."""
    rows: dict[int, list[int]] = {}
    crowded = set()
    for row, one in enumerate(segments):
        number = one.get("category_id", int)
        if number not in categories:
            raise one.error(f"there is no category {number}")
        rows.setdefault(number, []).append(row)
        crowded |= {number} if one.get("iscrowd", int, 0) else set()
    found = []
    for number, members in rows.items():
        if number not in crowded:
            name = _clean_name(categories[number].text("name"))
            found.append(Expression(f"the {pluralize(name) if len(members) > 1 else name}", tuple(members)))
    return tuple(found)


def _clean_name(name: str) -> str:
    """Return a category as words: "wall-brick" -> "brick wall", "sky-other-merged" -> "sky"."""
    words = [word for word in normalize(name).split("-") if word not in ("other", "merged", "stuff")]
    return " ".join(words[::-1] if words[-1] in MATERIALS else words)
