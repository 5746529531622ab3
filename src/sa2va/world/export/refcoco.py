"""Write drawn pictures in the layouts of RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO.

Flow: samples of refseg -> instances.json (COCO), references, coco2014/train2014/*.jpg below ref_seg/<name>.
Source: the layouts that data/refcoco.py and data/grefcoco.py read. As in COCO, every object is annotated; as in the
    public datasets, RefCOCO+ has no words of place, and only gRefCOCO has groups and absent objects.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sa2va.data.plain_pickle import write_plain_pickle
from sa2va.types import Sample
from sa2va.world.export.files import CATEGORIES, box_of, category_of, write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.outlines import trace_outlines
from sa2va.world.language.expressions import KINDS

PICTURES = "coco2014/train2014"
SINGLE = tuple(kind for kind in KINDS if kind not in ("group", "absent"))
PLACELESS = ("attribute", "superlative", "negation")
_STRIDE = 100  # ids of objects and references of a picture

Found = tuple[tuple[int, ...], list[str]]  # objects, and the expressions that name them


def find_references(sample: Sample, kinds: Sequence[str]) -> list[Found]:
    """Group the expressions of some kinds by the objects that they name."""
    found: dict[tuple[int, ...], list[str]] = {}
    written = zip(sample.meta["kinds"], sample.meta["targets"], sample.meta["expressions"], strict=True)
    for kind, targets, text in written:
        if kind in kinds:
            found.setdefault(tuple(targets), []).append(text)
    return list(found.items())


def _write(name: str, refs: str, kinds: Sequence[str], block: int, root: Path, parts: Sequence[Part]) -> None:
    folder = root / "ref_seg" / name
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    for part in parts:
        drawn = part.draw("refseg", block=block, keep=lambda one: find_references(one, kinds), empty_share=0.0)
        for number, sample in drawn:
            image = _add_picture(folder, number, sample, images, annotations)
            split = "train" if part.is_training else "val"
            for place, (objects, texts) in enumerate(find_references(sample, kinds)):
                ids = [_STRIDE * number + one for one in objects]
                reference = _build_reference(_STRIDE * number + place, image, split, texts)
                if name == "grefcoco":
                    reference |= {"ann_id": ids or [-1], "no_target": not ids}
                else:
                    reference |= {"ann_id": ids[0]}
                references.append(reference)
    write_json(folder / "instances.json", {"images": images, "annotations": annotations, "categories": CATEGORIES})
    write = write_json if refs.endswith(".json") else write_plain_pickle
    write(folder / refs, references)


def _add_picture(
    folder: Path, number: int, sample: Sample, images: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    frame = sample.frames[0]
    image = {
        "id": number,
        "file_name": f"COCO_train2014_{number:012d}.jpg",
        "height": frame.shape[0],
        "width": frame.shape[1],
    }
    write_jpeg(folder / PICTURES / image["file_name"], frame)
    images.append(image)
    for place, (item, mask) in enumerate(zip(sample.meta["scene"].objects, sample.masks[:, 0], strict=True)):
        annotations.append(
            {
                "id": _STRIDE * number + place,
                "image_id": number,
                "category_id": category_of(item.shape),
                "segmentation": trace_outlines(mask),
                "area": int(mask.sum()),
                "bbox": box_of(mask),
                "iscrowd": 0,
            }
        )
    return image


def _build_reference(ref_id: int, image: dict[str, Any], split: str, texts: Sequence[str]) -> dict[str, Any]:
    sentences = [
        {"sent_id": _STRIDE * ref_id + place, "raw": text, "sent": text, "tokens": text.split()}
        for place, text in enumerate(texts)
    ]
    return {
        "ref_id": ref_id,
        "image_id": image["id"],
        "file_name": image["file_name"],
        "split": split,
        "sent_ids": [one["sent_id"] for one in sentences],
        "sentences": sentences,
    }


def _layout(name: str, refs: str, kinds: Sequence[str], block: int) -> Layout:
    return Layout(partial(_write, name, refs, kinds, block), (f"ref_seg/{name}",), (name,))


REFCOCO = _layout("refcoco", "refs(unc).p", SINGLE, 0)
REFCOCO_PLUS = _layout("refcoco+", "refs(unc).p", PLACELESS, 1)
REFCOCOG = _layout("refcocog", "refs(umd).p", SINGLE, 2)
GREFCOCO = _layout("grefcoco", "grefs(unc).json", tuple(KINDS), 3)
