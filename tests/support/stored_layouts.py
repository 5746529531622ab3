"""Write small datasets in public layouts: pictures with rectangles as objects."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (24, 32)  # (H, W) px of every picture


def write_json(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def write_pickle(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(values))
    return path


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    """Write a picture of noise; PNG or JPEG by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def rectangle(x0: int, y0: int, x1: int, y1: int) -> list[float]:
    """Return a polygon in COCO's flat form whose raster is the mask [y0:y1, x0:x1]."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def rectangle_mask(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def write_refcoco(folder: Path, refs: str = "refs(unc).p") -> Path:
    """Write three pictures with two objects each; the third belongs to the split val."""
    images, annotations, references = [], [], []
    for number in range(3):
        name = f"COCO_train2014_{number:012d}.jpg"
        write_picture(folder / "coco2014/train2014" / name, number)
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for place, box in enumerate(((2, 3, 10, 12), (14, 5, 30, 20))):
            ann_id = 10 * number + place
            annotations.append({"id": ann_id, "image_id": number, "segmentation": [rectangle(*box)]})
            sentences = [
                {
                    "raw": f"The Thing {ann_id} {word}.",
                    "sent": f"cleaned {ann_id} {word}",
                    "sent_id": 2 * ann_id + place,
                }
                for place, word in enumerate("ab")
            ]
            references.append(
                {"ref_id": ann_id, "ann_id": ann_id, "image_id": number, "split": "val" if number == 2 else "train",
                 "sentences": sentences}
            )  # fmt: skip
    write_json(folder / "instances.json", {"images": images, "annotations": annotations})
    write_pickle(folder / refs, references)
    return folder
