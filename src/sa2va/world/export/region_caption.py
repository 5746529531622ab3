"""Write drawn pictures with marked objects in the layout of RefCOCOg's region captions.

Flow: samples of region -> region_caption/refcocog/{finetune_refcocog_val_with_mask.json, coco2014/train2014/*.jpg}.
Source: the layout that data/region_caption.py reads: COCO with an image and an annotation of the same id for each
    caption. The public pictures lie in glamm_data/images/coco2014/train2014, beside those of GCG.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sa2va.types import Sample
from sa2va.world.export.files import CATEGORIES, box_of, category_of, write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.outlines import trace_outlines
from sa2va.world.language.descriptions import describe
from sa2va.world.tasks.items import draw_item

FOLDER = "region_caption/refcocog"
FILE = "finetune_refcocog_val_with_mask.json"
PICTURES = "coco2014/train2014"
BLOCK = 5  # of region; Osprey has those before
_STRIDE = 100  # captions of a picture


def draw(part: Part) -> Iterator[tuple[int, Sample]]:
    """Draw the pictures of a part, each with its number; the marks are the visible pixels of objects."""
    return part.draw("region", block=BLOCK, form="mask")


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write the captions below a data root."""
    folder = root / FOLDER
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for part in parts:
        for number, sample in draw(part):
            name, frame = f"COCO_train2014_{number:012d}.jpg", sample.frames[0]
            write_jpeg(folder / PICTURES / name, frame)
            scene, _ = draw_item("region", part.scenes.seed, part.scenes.split, sample.meta["index"])
            for place, (mask, (target,)) in enumerate(
                zip(sample.turns[0].regions, sample.meta["targets"], strict=True)
            ):
                thing = scene.objects[target]
                caption = {"id": _STRIDE * number + place, "caption": describe(thing)}
                image = {"file_name": name, "height": frame.shape[0], "width": frame.shape[1]}
                images.append(caption | image | {"original_id": number, "dataset_name": "refcocog"})
                annotations.append(
                    caption
                    | {
                        "image_id": caption["id"],
                        "original_id": _STRIDE * number + target,
                        "category_id": category_of(thing.shape),
                        "segmentation": trace_outlines(mask),
                        "bbox": box_of(mask),
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                    }
                )
    write_json(folder / FILE, {"images": images, "annotations": annotations, "categories": CATEGORIES})


REGION_CAPTION = Layout(write, (FOLDER,), ("region_caption",), ("val",))
