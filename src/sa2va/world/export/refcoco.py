"""Write drawn pictures in the layouts of RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO.

Flow: samples of refseg -> instances.json (COCO), references, coco2014/train2014/*.jpg below ref_seg/<name>.
Source: the layouts that data/refcoco.py and data/grefcoco.py read. As in COCO, every object is annotated; as in the
    public datasets, RefCOCO+ has no words of place, and only gRefCOCO has groups and absent objects. The splits testA
    and testB, people and other objects in the public datasets, are two more draws of the same kind.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sa2va.data.plain_pickle import write_plain_pickle
from sa2va.types import Sample
from sa2va.world.export.files import CATEGORIES, box_of, category_of, write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.outlines import trace_outlines
from sa2va.world.language.expressions import KINDS
from sa2va.world.scenes.splits import TRAIN

PICTURES = "coco2014/train2014"
SINGLE = tuple(kind for kind in KINDS if kind not in ("group", "absent"))
PLACELESS = ("attribute", "superlative", "negation")
SPLITS = (TRAIN, "val", "testA", "testB")
_STRIDE = 100  # ids of objects and references of a picture

Found = tuple[tuple[int, ...], list[str]]  # objects, and the expressions that name them


class Variant(NamedTuple):
    """What one of the datasets has of its own."""

    refs: str  # file of the references
    kinds: tuple[str, ...]  # of expressions
    block: int  # of refseg
    splits: tuple[str, ...] = SPLITS


DATASETS = {
    "refcoco": Variant("refs(unc).p", SINGLE, 0),
    "refcoco+": Variant("refs(unc).p", PLACELESS, 1),
    "refcocog": Variant("refs(umd).p", SINGLE, 2, (TRAIN, "val", "test")),
    "grefcoco": Variant("grefs(unc).json", tuple(KINDS), 3),
}


def find_references(sample: Sample, kinds: Sequence[str]) -> list[Found]:
    """Group the expressions of some kinds by the objects that they name."""
    found: dict[tuple[int, ...], list[str]] = {}
    written = zip(sample.meta["kinds"], sample.meta["targets"], sample.meta["expressions"], strict=True)
    for kind, targets, text in written:
        if kind in kinds:
            found.setdefault(tuple(targets), []).append(text)
    return list(found.items())


def names_each_number(sample: Sample) -> bool:
    """Return whether a sample has expressions of no, of one and of several objects."""
    return {min(len(targets), 2) for targets in sample.meta["targets"]} == {0, 1, 2}


def draw_pictures(part: Part, name: str) -> Iterator[tuple[int, Sample]]:
    """Draw the pictures of a dataset, each with its number; in evaluation those of gRefCOCO ask for all its cases."""
    dataset = DATASETS[name]
    is_counted = name == "grefcoco" and not part.is_training
    keep = names_each_number if is_counted else partial(find_references, kinds=dataset.kinds)
    return part.draw("refseg", block=dataset.block, keep=keep, empty_share=0.0)


def _write(name: str, root: Path, parts: Sequence[Part]) -> None:
    dataset, folder = DATASETS[name], root / "ref_seg" / name
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    references: list[dict[str, Any]] = []
    for part in parts:
        for number, sample in draw_pictures(part, name):
            image = _add_picture(folder, number, sample, images, annotations)
            for place, (objects, texts) in enumerate(find_references(sample, dataset.kinds)):
                ids = [_STRIDE * number + one for one in objects]
                reference = _build_reference(_STRIDE * number + place, image, part.name, texts)
                if name == "grefcoco":
                    reference |= {"ann_id": ids or [-1], "no_target": not ids}
                else:
                    reference |= {"ann_id": ids[0]}
                references.append(reference)
    write_json(folder / "instances.json", {"images": images, "annotations": annotations, "categories": CATEGORIES})
    write = write_json if dataset.refs.endswith(".json") else write_plain_pickle
    write(folder / dataset.refs, references)


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


def _layout(name: str) -> Layout:
    return Layout(partial(_write, name), (f"ref_seg/{name}",), (name,), DATASETS[name].splits)


REFCOCO = _layout("refcoco")
REFCOCO_PLUS = _layout("refcoco+")
REFCOCOG = _layout("refcocog")
GREFCOCO = _layout("grefcoco")
