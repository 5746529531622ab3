"""Write drawn captions in the four layouts of grounded conversation generation (GCG).

Flow: samples of gcg -> annotations and pictures below glamm_data; val and test of GranD-f have the form that evaluation
    reads.
Source: the layouts that data/gcg.py reads; GLaMM, arXiv:2311.03356. Only Flickr30k's layout can name two objects by the
    same words, so the others leave out pictures with such captions.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.masks import encode_rle
from sa2va.types import Sample
from sa2va.world.export.files import CATEGORIES, box_of, category_of, write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.export.outlines import trace_outlines
from sa2va.world.scenes.splits import TRAIN

ANNOTATIONS, PICTURES = "glamm_data/annotations", "glamm_data/images"
REFCOCOG, GRANDF, FLICKR, OPENPSG = range(4)  # blocks
_STRIDE = 100  # annotation ids of a picture


def find_phrases(sample: Sample) -> list[tuple[str, int, int, int]]:
    """List the grounded phrases of a caption: (text, start, end, object)."""
    (turn,) = sample.turns
    return [(turn.answer[span.start : span.end], span.start, span.end, span.objects[0]) for span in turn.spans]


def has_distinct_phrases(sample: Sample) -> bool:
    """Return whether no two objects are named by the same words."""
    phrases = [text for text, *_ in find_phrases(sample)]
    return len(set(phrases)) == len(phrases)


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write the four datasets and what evaluation reads below a data root."""
    for part in parts:
        for name, (build, splits) in _FILES.items():
            if part.name in splits:
                write_json(root / ANNOTATIONS / f"{name}_{part.name}.json", build(root / PICTURES, part))
        if not part.is_training:
            _write_evaluation(root, part)


def _draw(
    part: Part, block: int, keep: Callable[[Sample], bool] = has_distinct_phrases
) -> Iterator[tuple[int, Sample]]:
    return part.draw("gcg", block=block, keep=keep)


def _mask_of(sample: Sample, index: int) -> NDArray[np.bool_]:
    return sample.masks[index, 0]


def _build_refcocog(pictures: Path, part: Part) -> list[dict[str, Any]]:
    records = []
    for number, sample in _draw(part, REFCOCOG):
        name = f"COCO_train2014_{number:012d}.jpg"
        write_jpeg(pictures / "coco2014/train2014" / name, sample.frames[0])
        refs = [
            {"sentence": text, "segmentation": trace_outlines(_mask_of(sample, index))}
            for text, _, _, index in find_phrases(sample)
        ]
        caption = sample.turns[0].answer
        records.append({str(number): {"img_file_name": name, "caption": caption, "refs": refs}})
    return records


def _build_grandf(pictures: Path, part: Part) -> list[dict[str, Any]]:
    return [
        _ground(number, f"sa_{number}.jpg", sample, pictures / "grandf/train")
        for number, sample in _draw(part, GRANDF)
    ]  # fmt: skip


def _build_openpsg(pictures: Path, part: Part) -> list[dict[str, Any]]:
    return [
        _ground(number, f"train2017/{number:012d}.jpg", sample, pictures / "coco2017")
        for number, sample in _draw(part, OPENPSG)
    ]


def _ground(number: int, name: str, sample: Sample, folder: Path) -> dict[str, Any]:
    write_jpeg(folder / name, frame := sample.frames[0])
    groundings = {
        text: {"token_positives": [start, end], "rle_masks": [encode_rle(_mask_of(sample, index))]}
        for text, start, end, index in find_phrases(sample)
    }
    return {
        "image_id": number,
        "file_name": name,
        "height": frame.shape[0],
        "width": frame.shape[1],
        "caption": sample.turns[0].answer,
        "groundings": groundings,
    }


def _build_flickr(pictures: Path, part: Part) -> dict[str, Any]:
    images, annotations = [], []
    for number, sample in _draw(part, FLICKR, bool):
        name = f"{number:010d}.jpg"
        write_jpeg(pictures / "flickr30k/Flickr30K" / name, frame := sample.frames[0])
        image = {"id": number, "file_name": name, "height": frame.shape[0], "width": frame.shape[1]}
        images.append(image | {"caption": sample.turns[0].answer})
        for place, (_, start, end, index) in enumerate(find_phrases(sample)):
            mask = _mask_of(sample, index)
            annotations.append(
                {
                    "id": _STRIDE * number + place,
                    "image_id": number,
                    "category_id": category_of(sample.meta["scene"].objects[index].shape),
                    "bbox": box_of(mask),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "tokens_positive": [[start, end]],
                    "sam_mask": encode_rle(mask),
                }
            )
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def _write_evaluation(root: Path, part: Part) -> None:
    """Write pictures, captions with their phrases, and one COCO annotation per phrase in the same order."""
    images, captions, masks = [], [], []
    for number, sample in _draw(part, GRANDF):
        image_id = f"sa_{number}"
        frame = sample.frames[0]
        write_jpeg(root / PICTURES / "grandf/val_test" / f"{image_id}.jpg", frame)
        images.append(
            {"id": image_id, "file_name": f"{image_id}.jpg", "height": frame.shape[0], "width": frame.shape[1]}
        )
        phrases = find_phrases(sample)
        labels = [text for text, *_ in phrases]
        captions.append({"id": number, "image_id": image_id, "caption": sample.turns[0].answer, "labels": labels})
        for place, (_, _, _, index) in enumerate(phrases):
            mask = _mask_of(sample, index)
            masks.append(
                {
                    "id": _STRIDE * number + place,
                    "image_id": image_id,
                    "category_id": 1,
                    "segmentation": encode_rle(mask),
                    "bbox": box_of(mask),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
    folder = root / ANNOTATIONS / "gcg_val_test"
    write_json(folder / f"{part.name}_gcg_coco_caption_gt.json", {"images": images, "annotations": captions})
    categories = [{"id": 1, "name": "object"}]
    truth = {"images": images, "annotations": masks, "categories": categories}
    write_json(folder / f"{part.name}_gcg_coco_mask_gt.json", truth)


_FILES: dict[str, tuple[Callable[[Path, Part], Any], tuple[str, ...]]] = {
    "RefCOCOg_GCG": (_build_refcocog, (TRAIN, "val")),
    "GranDf_HA_GCG": (_build_grandf, (TRAIN,)),
    "flickr_mergedGT_GCG": (_build_flickr, (TRAIN, "val")),
    "OpenPsgGCG": (_build_openpsg, (TRAIN, "val")),
}
GCG = Layout(
    write,
    (ANNOTATIONS, PICTURES),
    ("gcg_refcocog", "gcg_grandf", "gcg_flickr30k", "gcg_openpsg"),
    (TRAIN, "val", "test"),
)
