"""Check that masks of pictures from other programs are read and scored, or refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.stored_layouts import SIZE, rectangle, rectangle_mask, write_refcoco
from support.stored_pictures import write_reasonseg

from sa2va.evaluation.benchmark import Benchmark, Selection
from sa2va.evaluation.benchmarks.expressions import Referral
from sa2va.evaluation.benchmarks.reasonseg import reasonseg
from sa2va.evaluation.catalog import rebuild
from sa2va.evaluation.recorded import read_recorded
from sa2va.masks import encode_rle

LEFT, RIGHT = rectangle_mask(2, 3, 10, 12), rectangle_mask(14, 5, 30, 20)
EMPTY = np.zeros(SIZE, bool)
MASKS = {"2/20/40": LEFT, "2/20/41": EMPTY, "2/21/42": RIGHT, "2/21/43": rectangle_mask(14, 5, 22, 20)}
CIOU = (72 + 0 + 240 + 120) / (72 + 72 + 240 + 240)


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark[Referral]:
    write_refcoco(tmp_path / "data/ref_seg/refcoco")
    return rebuild("refcoco/val", Selection(split="val", root=tmp_path / "data"))


def score(benchmark: Benchmark[Referral], place: Path) -> dict[str, float | None]:
    answers = read_recorded(benchmark, place)
    records = [benchmark.score(benchmark.load(number), answers[key]) for number, key in enumerate(benchmark.ids)]
    return {figure.name: figure.value for figure in benchmark.summarize(records)}


def write_png(path: Path, mask: np.ndarray, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * value).save(path)


@pytest.mark.parametrize("name", ["id", "flat", "sentence"])
@pytest.mark.parametrize("value", [1, 255])
def test_pictures_are_found_by_item(benchmark: Benchmark[Referral], tmp_path: Path, name: str, value: int) -> None:
    for key, mask in MASKS.items():
        names = {"id": key, "flat": key.replace("/", "_"), "sentence": key.split("/")[2]}
        write_png(tmp_path / f"masks/{names[name]}.png", mask, value)
    found = score(benchmark, tmp_path / "masks")
    assert found["cIoU"] == pytest.approx(CIOU) and found["answers without a mask"] == 0.25


@pytest.mark.parametrize("form", ["rle", "uncompressed", "polygons", "mapping", "several"])
def test_results_are_found_by_their_item(benchmark: Benchmark[Referral], tmp_path: Path, form: str) -> None:
    content: Any = [{"id": key, "segmentation": encode_rle(mask)} for key, mask in MASKS.items()]
    if form == "uncompressed":
        content[1] = {"id": "2/20/41", "segmentation": {"size": list(SIZE), "counts": [SIZE[0] * SIZE[1]]}}
    elif form == "polygons":
        content[0] = {"sent_id": 40, "ref_id": 20, "image_id": 2, "segmentation": [rectangle(2, 3, 10, 12)]}
        content[1] = {"id": "2/20/41", "segmentation": None}
    elif form == "mapping":
        content = {key: encode_rle(mask) for key, mask in MASKS.items()} | {"2/20/41": None}
    elif form == "several":
        parts = [rectangle_mask(14, 5, 20, 20), rectangle_mask(20, 5, 30, 20)]
        content[2:3] = [{"id": "2/21/42", "segmentation": encode_rle(part), "score": 0.5} for part in parts]
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert score(benchmark, tmp_path / "results.json")["cIoU"] == pytest.approx(CIOU)


def test_the_first_text_of_reasonseg_may_be_named_by_its_picture(tmp_path: Path) -> None:
    write_reasonseg(tmp_path / "reason_seg/ReasonSeg")
    benchmark = reasonseg(Selection(split="train", root=tmp_path, limit=2))
    for name in "ab":
        write_png(tmp_path / f"masks/{name}.png", ~EMPTY)
    assert score(benchmark, tmp_path / "masks")["answers without a mask"] == 0


def test_what_is_missing_or_of_another_size_is_named(benchmark: Benchmark[Referral], tmp_path: Path) -> None:
    write_png(tmp_path / "masks/2/20/40.png", LEFT)
    with pytest.raises(ValueError, match=r"3 of the 4 items of refcoco/val: 2/20/41, 2/21/42, 2/21/43;"):
        read_recorded(benchmark, tmp_path / "masks")
    for key in MASKS:
        write_png(tmp_path / f"masks/{key}.png", np.ones((5, 6), bool))
    with pytest.raises(ValueError, match=r"item 2/20/40: the answer has 1 masks of 6x5 px; expected 1 of 32x24"):
        score(benchmark, tmp_path / "masks")
    with pytest.raises(ValueError, match="there is no such folder of predictions"):
        read_recorded(benchmark, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content, reason",
    [
        ([{"segmentation": None}], r"results\.json: result 0: it has none of id, sent_id, image_id"),
        ([3], r"result 0: it is 3; expected an object"),
        ("masks", r"it holds a str; expected a list of results"),
        ([{"id": key, "segmentation": [3]} for key in MASKS], r"result 0: segmentation has polygon 3"),
    ],
)
def test_damaged_results_are_named(
    benchmark: Benchmark[Referral], tmp_path: Path, content: object, reason: str
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=reason):
        score(benchmark, tmp_path / "results.json")
