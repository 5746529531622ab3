"""Draw pictures of a shape and texture that the embedded model has never seen, with masks in COCO JSON.

Flow: python benchmarks/new_look.py FOLDER -> FOLDER/train.json, val.json and images/, for
    sa2va finetune --data FOLDER -o OUT            (held-out figures before and after)
    sa2va eval tiny --world --items 100 [--adapter OUT]          (what it has forgotten)
Each picture is a drawn scene with a checkered gear in it. Only the gears are annotated.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sa2va.masks import encode_rle
from sa2va.world.scenes.sampling import make_scene

SIDE = 256  # px
NAME = "checkered gear"
TEETH, CHECK = 8, 0.28  # side of a check, as a share of the radius


def gear(x: float, y: float, radius: float, angle: float) -> np.ndarray:
    """Return the corners of a gear, (K, 2) px."""
    turns = np.arange(4 * TEETH) / (4 * TEETH) * 2 * np.pi + angle
    lengths = radius * np.where(np.arange(4 * TEETH) % 4 < 2, 1.0, 0.72)
    return np.stack([x + lengths * np.cos(turns), y + lengths * np.sin(turns)], axis=1)


def draw_gear(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a gear with checks in two colors into a picture, in place; return its mask (SIDE, SIDE)."""
    radius = rng.uniform(0.11, 0.2) * SIDE
    x, y = rng.uniform(radius, SIDE - radius, 2)
    angle = rng.uniform(0, 2 * np.pi)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [gear(x, y, radius, angle).round().astype(np.int32)], 1)
    cv2.circle(mask, (round(x), round(y)), round(0.25 * radius), 0, -1)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    u = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    v = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    checks = (np.floor(u / (CHECK * radius)) + np.floor(v / (CHECK * radius))).astype(int) % 2
    colors = rng.permutation(np.array([[20, 20, 20], [245, 245, 245], [200, 30, 40], [30, 90, 200], [240, 200, 40]]))
    picture[mask > 0] = colors[checks[mask > 0]]
    return mask.astype(bool)


def write_split(folder: Path, name: str, first: int, number: int) -> None:
    """Write `number` pictures and their annotations."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(first, first + number):
        rng = np.random.default_rng([7, index])
        picture = make_scene(7, "new-look", index).render(SIDE).frames[0].copy()
        masks = [draw_gear(picture, rng)]
        file = f"{index:04d}.png"
        Image.fromarray(picture).save(folder / "images" / file)
        images.append({"id": index, "file_name": file, "height": SIDE, "width": SIDE})
        annotations += [
            {"id": index, "image_id": index, "category_id": 1, "iscrowd": 0, "segmentation": encode_rle(mask)}
            for mask in masks
        ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": NAME}]}
    (folder / f"{name}.json").write_text(json.dumps(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=20, help="Number of training pictures.")
    parser.add_argument("--val", type=int, default=40, help="Number of held-out pictures.")
    options = parser.parse_args()
    (options.folder / "images").mkdir(parents=True, exist_ok=True)
    write_split(options.folder, "train", 0, options.train)
    write_split(options.folder, "val", 1000, options.val)


if __name__ == "__main__":
    main()
