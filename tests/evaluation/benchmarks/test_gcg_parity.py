"""Compare the figures of recorded grounded captions with COCO's evaluation, and with GLaMM's rules in plain loops."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support.stored_layouts import write_json, write_picture

from sa2va.evaluation import caption as captions
from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.benchmarks.gcg import gcg
from sa2va.evaluation.recorded import read_recorded
from sa2va.masks import encode_rle

SIZE = (20, 24)
NAMES = ("a red hat", "the hat", "a dog", "two dogs", "grass")
NUM_PICTURES = 60


def random_mask(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    y, x, height, width = rng.integers((0, 0, 2, 2), (12, 14, 9, 11))
    mask[y : y + height, x : x + width] = True
    return mask


def near(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(mask, tuple(rng.integers(-2, 3, 2)), (0, 1))


def write_random(root: Path, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Write truth and predictions; return both by picture, masks as arrays."""
    images, texts, objects, cases = [], [], [], {}
    for number in range(NUM_PICTURES):
        image_id = f"sa_{rng.integers(10**6)}_{number}"
        truth = [random_mask(rng) for _ in range(rng.integers(1, 5))]
        labels = [str(rng.choice(NAMES)) for _ in truth]
        kept = rng.permutation(len(truth))[: rng.integers(0, len(truth) + 1)]
        found = [near(truth[place], rng) for place in kept] + [random_mask(rng) for _ in range(rng.integers(0, 3))]
        said = [labels[place] if rng.random() < 0.7 else str(rng.choice(NAMES)) for place in kept]
        said += [str(rng.choice(NAMES)) for _ in range(rng.integers(0, 3))]
        if found and rng.random() < 0.2:
            found[0] = np.zeros(SIZE, bool)
        images.append({"id": image_id, "height": SIZE[0], "width": SIZE[1]})
        write_picture(root / f"glamm_data/images/grandf/val_test/{image_id}.jpg", number, SIZE)
        texts.append({"id": number, "image_id": image_id, "caption": "A picture.", "labels": labels})
        for mask in truth:
            rle = encode_rle(mask)
            area = {"area": int(mask.sum()), "bbox": [0, 0, 1, 1], "iscrowd": 0}
            objects.append({"id": len(objects) + 1, "image_id": image_id, "category_id": 1, "segmentation": rle} | area)
        caption = " and ".join(said) if rng.random() < 0.5 else "Something else."
        values = {"image_id": image_id, "caption": caption, "phrases": said, "pred_masks": list(map(encode_rle, found))}
        write_json(root / f"recorded/{image_id}.json", values)
        cases[image_id] = {"truth": truth, "labels": labels, "found": found, "said": said}
    place = root / "glamm_data/annotations/gcg_val_test"
    write_json(place / "val_gcg_coco_caption_gt.json", {"images": images, "annotations": texts})
    categories = [{"id": 1, "name": "object"}]
    write_json(
        place / "val_gcg_coco_mask_gt.json", {"images": images, "annotations": objects, "categories": categories}
    )
    return cases


def coco_ap50(root: Path) -> float:
    """Compute AP50 of the files with COCO's own evaluation."""
    file = root / "glamm_data/annotations/gcg_val_test/val_gcg_coco_mask_gt.json"
    truth = COCO(str(file))
    rows = [
        {"image_id": image_id, "category_id": 1, "segmentation": rle, "score": 1.0}
        for image_id in truth.getImgIds()
        for rle in json.loads((root / f"recorded/{image_id}.json").read_text())["pred_masks"]
    ]
    judge = COCOeval(truth, truth.loadRes(rows), "segm")
    judge.params.catIds = [1]
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return float(judge.stats[1])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def overlap(one: str, other: str) -> float:
    left, right = one.split(), other.split()
    return 2 * sum(min(left.count(word), right.count(word)) for word in set(left)) / (len(left) + len(right))


def naive_iou(truth: list[np.ndarray], found: list[np.ndarray]) -> float:
    table = {(p, g): iou(mask, other) for p, mask in enumerate(found) for g, other in enumerate(truth)}
    values = []
    while table and max(table.values()) > 0:
        best = max(table, key=lambda pair: table[pair])
        values.append(table[best])
        table = {pair: value for pair, value in table.items() if pair[0] != best[0] and pair[1] != best[1]}
    return sum(values) / len(values) if values else 0.0


def naive_recalled(case: dict[str, Any]) -> int:
    table = {(g, p): iou(mask, other) for g, mask in enumerate(case["truth"]) for p, other in enumerate(case["found"])}
    count = 0
    while table:
        g, p = max(table, key=lambda pair: table[pair])
        if table[g, p] < 0.5:
            break
        if g >= len(case["labels"]) or p >= len(case["said"]):
            return 0  # the scorer's index error
        if overlap(case["labels"][g], case["said"][p]) < 0.5:
            break
        count += 1
        table = {pair: value for pair, value in table.items() if pair[0] != g and pair[1] != p}
    return count


@pytest.mark.parametrize("seed", range(4))
def test_recorded_captions_have_the_figures_of_independent_implementations(tmp_path: Path, seed: int) -> None:
    cases = write_random(tmp_path, np.random.default_rng(seed))
    benchmark = gcg(Selection(split="val", root=tmp_path))
    recorded = read_recorded(benchmark, tmp_path / "recorded")
    records = [benchmark.score(benchmark.load(place), recorded[key]) for place, key in enumerate(benchmark.ids)]
    found = {one.name: one.value for one in [*captions.grounded_figures(records), *captions.glamm_figures(records)]}
    assert found["AP50, every score 1"] == pytest.approx(coco_ap50(tmp_path), abs=1e-6)
    miou = np.mean([naive_iou(case["truth"], case["found"]) for case in cases.values()])
    assert found["mIoU, matched pairs"] == pytest.approx(miou, abs=1e-6)
    recall = sum(map(naive_recalled, cases.values())) / sum(len(case["labels"]) for case in cases.values())
    assert found["recall, word overlap"] == pytest.approx(recall, abs=1e-6)
