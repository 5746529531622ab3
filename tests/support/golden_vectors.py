"""Make the golden vectors of tests/data/golden: figures of other packages, and outputs of tiny models of our own.

Run from the root of the repository; tests/data/golden/README.md says what each file holds:
    PYTHONPATH=src:tests python -m support.golden_vectors families
    PYTHONPATH=tests python tests/support/golden_vectors.py metrics davis2017/metrics.py
"""

import importlib.util
import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from support.coco_judge import coco_ap50, encode

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
FAMILIES_FILE, METRICS_FILE = "families.safetensors", "metrics.json"
NUM_FRAMES, LAST = 7, 6  # two more than the key frames, so that SAM 2's memory is read as well


# ---- what other packages say


def draw_blobs(rng: np.random.Generator, number: int, height: int, width: int) -> np.ndarray:
    """Return filled ellipses, some cut by the edge: bool (number, height, width)."""
    y, x = np.mgrid[:height, :width]
    center = rng.uniform(0, (height, width), (number, 2))[..., None, None]
    radius = rng.uniform(4, height / 3, (number, 2))[..., None, None]
    return ((y - center[:, 0]) / radius[:, 0]) ** 2 + ((x - center[:, 1]) / radius[:, 1]) ** 2 <= 1


def score_tracks(davis: Any) -> list[dict[str, Any]]:
    """Return tracks with J and F of each frame as the evaluation code of DAVIS 2017 computes them."""
    rng, tracks = np.random.default_rng(1), []
    for shift in (1, 2, 4):
        target = draw_blobs(rng, 5, 60, 80)
        pred = np.roll(target, shift, axis=2) & ~draw_blobs(rng, 5, 60, 80)
        target[1], pred[2] = False, False  # not there, and not found
        target[3] = pred[3] = shift == 4  # neither, or all of the frame
        j, f = davis.db_eval_iou(target, pred), davis.db_eval_boundary(target, pred)
        tracks.append({"target": encode(target), "pred": encode(pred), "j": j.tolist(), "f": f.tolist()})
    return tracks


def score_pictures() -> dict[str, Any]:
    """Return pictures with the IoU of every pair of masks, and AP at IoU 0.5 over all, as pycocotools computes them."""
    rng, pictures, masks = np.random.default_rng(2), [], []
    for index in range(6):
        target = draw_blobs(rng, int(rng.integers(1, 5)), 40, 50)
        pred = np.concatenate([np.roll(target, index + 1, axis=2), draw_blobs(rng, 1, 40, 50)])[int(index == 3) :]
        scores = rng.permutation(len(pred)) / 8 + 0.1
        iou = coco_mask.iou(encode(pred), encode(target), [0] * len(target))
        pictures.append(
            {"target": encode(target), "pred": encode(pred), "scores": scores.tolist(), "iou": iou.tolist()}
        )
        masks.append((pred, target, scores.tolist()))
    return {"pictures": pictures, "ap50": coco_ap50(masks)}


def write_metrics(davis_file: str) -> None:
    spec = importlib.util.spec_from_file_location("davis_metrics", davis_file)
    assert spec is not None and spec.loader is not None
    davis = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(davis)
    values = {"tracks": score_tracks(davis)} | score_pictures()
    (GOLDEN / METRICS_FILE).write_text(json.dumps(values) + "\n")


# ---- what our own models say


def build_golden(kind: str) -> Any:
    """Build a tiny model of a published layout, with weights drawn by name, not a library's start values."""
    from dataclasses import replace

    import torch
    from support.published_folder import SMALL_SAM2
    from support.small_families import build_config, build_tokenizer

    from sa2va.checkpoints.sam2_sizes import config_from_official
    from sa2va.inference.predictor import Predictor
    from sa2va.model.processor import Processor
    from sa2va.model.sa2va import Sa2VA

    config = replace(build_config(kind), sam2=config_from_official({"sam2_tiny_override": SMALL_SAM2}))
    model = Sa2VA(config).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(value.shape)
            scale = 0.1 if value.ndim < 2 else float(np.prod(value.shape[1:])) ** -0.5
            is_norm = value.ndim == 1 and name.endswith("weight")
            value.copy_(torch.from_numpy(drawn * scale + is_norm))
    return Predictor(model, Processor(config, build_tokenizer()))


def compute(kind: str) -> dict[str, Any]:
    """Run a clip and return its ids, states at [SEG], prompt embeddings, and masks of a key frame and the last one."""
    import torch
    from support.recorded_case import record

    with tempfile.TemporaryDirectory() as folder:
        tensors = record(build_golden(kind), Path(folder), "video", NUM_FRAMES)
    kept = {name: tensors[name] for name in ("seg_hidden", "seg_embed", "seg0_score")}
    kept["input_ids"] = tensors["input_ids"].to(torch.int16)
    kept["seg0_low"] = tensors["seg0_low"][[0, LAST]].half()
    kept["seg0_final_pixels"] = tensors["seg0_final_mask"].sum((-2, -1)).to(torch.int16)
    return {f"{kind}.{name}": value.contiguous() for name, value in kept.items()}


def write_families() -> None:
    from safetensors.torch import save_file
    from support.small_families import OFFICIAL

    save_file({name: value for kind in OFFICIAL for name, value in compute(kind).items()}, GOLDEN / FAMILIES_FILE)


if __name__ == "__main__":
    if sys.argv[1:] == ["families"]:
        write_families()
    elif sys.argv[1:2] == ["metrics"] and len(sys.argv) == 3:
        write_metrics(sys.argv[2])
    else:
        sys.exit(__doc__)
