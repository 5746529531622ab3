"""Lay out written expressions for objects of pictures and clips as own data, which `sa2va eval --benchmarks own` reads.

Flow: FOLDER/annotations/referring.json (items with "image" and "mask", or "frames" and "masks") -> OUT/pictures in COCO
    JSON with "expressions", OUT/clips with objects.json; pictures and masks of clips are links to FOLDER.
Run: python benchmarks/written_expressions.py FOLDER OUT
    sa2va eval tiny --benchmarks own --data OUT/pictures; sa2va eval tiny --benchmarks own --data OUT/clips
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sa2va.masks import encode_rle

FIRST_ONLY = ("first frame only", "frame 0 ")  # notes of items whose later masks are of other objects, or missing


def read_ids(path: Path, encoding: str) -> np.ndarray:
    """Read the id of the object at each pixel, (H, W); "panoptic_rgb" is R + 256 G + 65536 B."""
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("RGB") if encoding == "panoptic_rgb" else picture).astype(int)
    return values @ np.array([1, 1 << 8, 1 << 16]) if encoding == "panoptic_rgb" else values


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target.resolve())


def write_pictures(folder: Path, items: list[dict[str, Any]], out: Path) -> None:
    """Write COCO JSON with a picture per "image" and an annotation per object."""
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for item in items:
        ids = read_ids(folder / item["mask"], item["encoding"])
        name = Path(item["image"]).name
        if name not in images:
            link(out / "images" / name, folder / item["image"])
            images[name] = {"id": len(images), "file_name": name, "height": ids.shape[0], "width": ids.shape[1]}
        annotations += [
            {
                "id": len(annotations) + place,
                "image_id": images[name]["id"],
                "segmentation": encode_rle(ids == one),
                "iscrowd": 0,
                "expressions": item["expressions"],
            }
            for place, one in enumerate(item["ids"])
        ]
    content = {"images": list(images.values()), "annotations": annotations}
    (out / "expressions_of_objects.json").write_text(json.dumps(content) + "\n")


def write_clips(folder: Path, items: list[dict[str, Any]], out: Path) -> None:
    """Write a folder with frames and masks per clip, and objects.json."""
    objects: dict[str, dict[str, Any]] = {}
    for item in items:
        clip = Path(item["frames"]).parent.name
        if clip not in objects:
            link(out / clip / "frames", folder / item["frames"])
            masks = sorted((folder / item["masks"]).glob("*.png"))
            for path in masks[:1] if item.get("note", "").startswith(FIRST_ONLY) else masks:
                link(out / clip / "masks" / path.name, path)
        with Image.open(next((out / clip / "masks").glob("*.png"))) as mask:
            ids = [1] if mask.mode == "1" else item["ids"]  # a mask of one bit is one object, whatever its number
        objects.setdefault(clip, {}).update({str(one): {"expressions": item["expressions"]} for one in ids})
    (out / "objects.json").write_text(json.dumps(objects) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Lay out written expressions as own data.")
    parser.add_argument("folder", type=Path, help="holds annotations/referring.json")
    parser.add_argument("out", type=Path, help="new folder")
    arguments = parser.parse_args()
    items = json.loads((arguments.folder / "annotations/referring.json").read_text())["items"]
    pictures, clips = [one for one in items if "image" in one], [one for one in items if "frames" in one]
    arguments.out.mkdir(parents=True)
    if pictures:
        write_pictures(arguments.folder, pictures, arguments.out / "pictures")
    if clips:
        write_clips(arguments.folder, clips, arguments.out / "clips")
    number = sum(len(one["expressions"]) for one in items)
    print(f"{len(pictures)} objects of pictures, {len(clips)} of clips, {number} expressions")


if __name__ == "__main__":
    main()
