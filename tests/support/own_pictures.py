"""Write own data in COCO JSON that a very small model can learn: a red square on gray, elsewhere in each picture."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sa2va.masks import encode_rle

SIDE = 64  # px


def write_squares(folder: Path, number: int = 6, first: int = 0, name: str = "train.json") -> Path:
    """Write pictures and annotations; return the folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(first, first + number):
        rng = np.random.default_rng(index)
        x, y = rng.integers(0, SIDE - 30, 2)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[y : y + 26, x : x + 26] = True
        picture = np.full((SIDE, SIDE, 3), 120, np.uint8)
        picture[mask] = (220, 30, 30)
        Image.fromarray(picture).save(folder / "images" / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": SIDE, "width": SIDE})
        annotations.append(
            {"id": index, "image_id": index, "category_id": 1, "iscrowd": 0, "segmentation": encode_rle(mask)}
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "red square"}]}
    (folder / name).write_text(json.dumps(content))
    return folder
