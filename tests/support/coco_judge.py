"""Compute AP at IoU 0.5 with pycocotools, the reference of sa2va.metrics.ap."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def encode(masks: np.ndarray) -> list[dict[str, Any]]:
    """Encode bool masks (N, H, W) as run lengths with counts as text."""
    found = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode()} for rle in found]


def coco_ap50(pictures: Sequence[tuple[np.ndarray, np.ndarray, Sequence[float]]]) -> float:
    """Compute AP50 over pictures of one size: predictions, targets (bool (N, H, W)), a score per prediction."""
    height, width = pictures[0][0].shape[1:]
    truth, found = [], []
    for index, (pred, target, scores) in enumerate(pictures):
        for rle in encode(target):
            ids = {"id": len(truth) + 1, "image_id": index, "category_id": 1, "iscrowd": 0}
            truth.append({**ids, "segmentation": rle, "area": float(coco_mask.area(rle))})
        for rle, score in zip(encode(pred), scores, strict=True):
            found.append({"image_id": index, "category_id": 1, "segmentation": rle, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images = [{"id": index, "height": height, "width": width} for index in range(len(pictures))]
        coco.dataset = {"info": {}, "images": images, "annotations": truth, "categories": [{"id": 1}]}
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(found), "segm")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[1])
