"""Compare metrics and tiny models of every family with the golden vectors in tests/data/golden."""

import json
from functools import cache

import numpy as np
import pytest
from safetensors.torch import load_file
from support.golden_vectors import FAMILIES_FILE, GOLDEN, METRICS_FILE, compute
from support.small_families import OFFICIAL
from torch import Tensor

from sa2va.masks import decode_rle
from sa2va.metrics.ap import average_precision, detections, matched_iou
from sa2va.metrics.boundary import boundary_f, jaccard
from sa2va.metrics.iou import ciou, giou, pairwise_iou
from sa2va.metrics.text import attribute_counts, exact_match, f1, plain_text
from sa2va.model.families.qwen_vl import QwenVL

METRICS = json.loads((GOLDEN / METRICS_FILE).read_text())
BY_HAND = json.loads((GOLDEN / "by_hand.json").read_text())
# float32 rounds otherwise on another processor, and a random mask decoder enlarges that; logits are kept in float16.
LIMITS = {"seg_hidden": 1e-4, "seg_embed": 1e-4, "seg0_score": 1e-3, "seg0_low": 2e-2, "seg0_final_pixels": 12}


def masks(rles: list[dict[str, object]]) -> np.ndarray:
    return np.stack([decode_rle(rle) for rle in rles])


@pytest.mark.parametrize("track", METRICS["tracks"], ids=["near", "nearly", "far"])
def test_tracks_score_as_with_the_code_of_davis(track: dict) -> None:
    pred, target = masks(track["pred"]), masks(track["target"])
    assert jaccard(pred, target).tolist() == pytest.approx(track["j"], abs=1e-12)
    assert boundary_f(pred, target).tolist() == pytest.approx(track["f"], abs=1e-12)


def test_pictures_score_as_with_pycocotools() -> None:
    found = []
    for picture in METRICS["pictures"]:
        similarity = pairwise_iou(masks(picture["pred"]), masks(picture["target"]))
        assert similarity == pytest.approx(np.array(picture["iou"]), abs=1e-12)
        found.append(detections(similarity, picture["scores"]))
    assert 0.3 < METRICS["ap50"] < 0.9
    assert average_precision(found) == pytest.approx(METRICS["ap50"], abs=1e-9)


def test_figures_are_those_computed_by_hand() -> None:
    for name, metric in (("ciou", ciou), ("giou", giou)):
        for case in BY_HAND[name]:
            assert metric(case["intersections"], case["unions"]) == pytest.approx(case["value"])
    for case in BY_HAND["matched_iou"]:
        assert matched_iou(np.array(case["similarity"])) == pytest.approx(case["value"])
    for answer, gold, value in BY_HAND["exact_match"]:
        assert exact_match(answer, gold) == value
    for pred, gold, value in BY_HAND["set_f1"]:
        assert f1(len(set(pred) & set(gold)), len(set(pred)), len(set(gold))) == pytest.approx(value)
    for text, plain in BY_HAND["plain_text"]:
        assert plain_text(text) == plain
    for pred, gold, counts in BY_HAND["attribute_counts"]:
        assert attribute_counts(pred, gold) == tuple(counts)


@cache
def recorded(kind: str) -> dict[str, Tensor]:
    tensors = load_file(GOLDEN / FAMILIES_FILE)
    return {name: value for name, value in tensors.items() if name.startswith(f"{kind}.")}


def differences(kind: str) -> dict[str, float]:
    """Return how far each tensor is from the recorded one, as a share of its limit."""
    found = {}
    for name, value in compute(kind).items():
        assert value.shape == recorded(kind)[name].shape
        distance = float((value.double() - recorded(kind)[name].double()).abs().max())
        found[name.removeprefix(f"{kind}.")] = distance / LIMITS.get(name.split(".")[-1], 1e-9)
    return found


@pytest.mark.parametrize("kind", list(OFFICIAL))
def test_a_tiny_model_of_each_layout_gives_what_it_gave(kind: str) -> None:
    found = differences(kind)
    assert found.keys() == {*LIMITS, "input_ids"}
    assert max(found.values()) <= 1, found


def test_a_small_mistake_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels normalized with ImageNet's mean instead of CLIP's: three levels of 255 at most."""
    monkeypatch.setattr(QwenVL, "pixel_mean", (0.485, 0.456, 0.406), raising=False)
    monkeypatch.delattr("sa2va.model.families.qwen2_5_vl.Qwen2_5VL.pixel_mean")
    found = differences("qwen2_5_vl")
    assert found["seg_hidden"] > 10 and found["seg_embed"] > 10 and found["input_ids"] == 0


def test_the_vectors_stay_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 40_000
