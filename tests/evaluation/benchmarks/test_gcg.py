"""Check the benchmark of grounded captions: figures by hand, empty answers, the files of the released scorer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stored_layouts import rectangle_mask, write_json
from support.stored_pictures import BOXES, CAPTION, write_gcg_evaluation

from sa2va.evaluation import caption as captions
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Figure, Selection
from sa2va.evaluation.benchmarks.gcg import gcg, write_answers
from sa2va.evaluation.prompts import GROUNDED_CAPTION
from sa2va.evaluation.recorded_captions import find_captions, mark_phrases
from sa2va.inference.results import ObjectMasks
from sa2va.masks import encode_rle

SIZE = (40, 48)
FIRST, SECOND = (rectangle_mask(*box, size=SIZE) for box in BOXES)
AWAY = rectangle_mask(0, 30, 10, 40, size=SIZE)
TRUTH = "<p> A man </p> [SEG] in <p> a red shirt </p> [SEG] holds a ball."


def answer(text: str, *masks: np.ndarray, scores: Sequence[float] | None = None) -> Answer:
    objects = tuple(
        ObjectMasks(id=n, phrase=None, presence=1.0, scores=np.full(1, score, np.float32), rles=(encode_rle(mask),))
        for n, (mask, score) in enumerate(zip(masks, scores or [1.0] * len(masks), strict=True), 1)
    )
    return Answer(text=text, size=SIZE, objects=objects)


@pytest.fixture
def benchmark_val(tmp_path: Path) -> Benchmark[Any]:
    write_gcg_evaluation(tmp_path / "glamm_data")
    return gcg(Selection(split="val", root=tmp_path))


def figures(benchmark: Benchmark[Any], *answers: Answer) -> dict[str, Figure]:
    """Compute all figures but those of texts, which need Java."""
    records = [benchmark.score(benchmark.load(place), [one]) for place, one in enumerate(answers)]
    records = json.loads(json.dumps(records))
    return {one.name: one for one in [*captions.grounded_figures(records), *captions.glamm_figures(records)]}


def values(found: dict[str, Figure], *names: str) -> list[float]:
    return [next(one.value for name, one in found.items() if name.startswith(start)) for start in names]


NAMES = ("AP50, every", "AP50, ranked", "mIoU, matched", "mean IoU, unm", "recall, word overlap")


def test_items_are_pictures_in_the_order_of_cocos_scorer(benchmark_val: Benchmark[Any]) -> None:
    assert benchmark_val.ids == ["sa_10", "sa_2"]
    (request,) = benchmark_val.ask(benchmark_val.load(1))
    assert (Path(request.media).name, request.prompt) == ("sa_2.jpg", GROUNDED_CAPTION["ours"])
    assert benchmark_val.score(benchmark_val.load(0), [answer(TRUTH, FIRST, SECOND)])["group"] == "sa_10"


def test_true_answers_have_full_marks(benchmark_val: Benchmark[Any]) -> None:
    found = figures(benchmark_val, answer(TRUTH, FIRST, SECOND), answer("<p>A ball</p>[SEG].", SECOND))
    assert values(found, *NAMES) == [1.0] * 5


def test_figures_by_hand(benchmark_val: Benchmark[Any]) -> None:
    """One of two objects found, with an invented mask before it; the other picture has no mask at all."""
    text = "<p> a red shirt </p> [SEG] and <p> A man </p> [SEG]"
    found = figures(benchmark_val, answer(text, AWAY, FIRST, scores=[0.2, 0.9]), answer("A ball."))
    plain, ranked, matched, ours, recall = values(found, *NAMES)
    assert plain == pytest.approx(34 / 101 / 2)  # precision 1/2 up to recall 1/3
    assert ranked == pytest.approx(34 / 101)
    assert matched == 0.5  # 1 over its one pair, 0 in the empty picture
    assert ours == pytest.approx((1 / 3 + 0) / 2)  # one pair, one missed, one invented
    assert recall == pytest.approx(1 / 3)


def test_the_wrong_phrase_recalls_nothing_and_stops_the_picture(benchmark_val: Benchmark[Any]) -> None:
    text = "<p> a green tree </p> [SEG] and <p> a red shirt </p> [SEG]"
    found = figures(benchmark_val, answer(text, FIRST, SECOND), answer("<p> A ball </p> [SEG]", SECOND))
    assert values(found, "recall, word overlap") == [pytest.approx(1 / 3)]


def test_more_masks_than_phrases(benchmark_val: Benchmark[Any]) -> None:
    """The released scorer fails only at a mask without a phrase; by the letter, the picture adds nothing."""
    text = "<p> A man </p> [SEG] and [SEG]"
    found = figures(benchmark_val, answer(text, FIRST, AWAY), answer("<p> A ball </p> [SEG]", SECOND))
    released, paired = (one.value for name, one in found.items() if name.startswith("recall"))
    assert (released, paired) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_a_case_shows_all_masks_and_both_captions(benchmark_val: Benchmark[Any]) -> None:
    item, said = benchmark_val.load(0), [answer(TRUTH, FIRST)]
    assert benchmark_val.show is not None
    case = benchmark_val.show(item, said, benchmark_val.score(item, said))
    assert case.picture.shape == (*SIZE, 3)
    assert np.array_equal(case.truth, FIRST | SECOND) and np.array_equal(case.found, FIRST)
    assert (case.expression, case.text) == (CAPTION, "A man in a red shirt holds a ball.")


def test_a_mask_of_another_size_is_refused(benchmark_val: Benchmark[Any]) -> None:
    other = Answer(text="", size=(8, 8))
    with pytest.raises(ValueError, match="image sa_10: mask is .40, 48.; expected the picture's size .8, 8."):
        benchmark_val.score(benchmark_val.load(0), [other])


def test_written_answers_are_read_back_with_the_same_scores(tmp_path: Path, benchmark_val: Benchmark[Any]) -> None:
    said = [answer(TRUTH, FIRST, SECOND | FIRST), answer("No phrase, [SEG].", SECOND)]
    items = [benchmark_val.load(place) for place in range(2)]
    folder = tmp_path / "out"
    folder.mkdir()
    write_answers(folder, zip(items, [[one] for one in said], strict=True))
    values = json.loads((folder / "sa_10.json").read_text())
    assert (values["image_id"], values["phrases"]) == ("sa_10", ["A man", "a red shirt"])
    assert values["caption"] == "A man in a red shirt holds a ball."
    find = find_captions(folder)
    for item, one in zip(items, said, strict=True):
        read = find(item)
        assert read is not None
        assert benchmark_val.score(item, read()) == benchmark_val.score(item, [one])


@pytest.mark.parametrize(
    "caption, phrases, marked",
    [
        ("A cat on a mat.", ["A cat", "a mat"], "<p>A cat</p> on <p>a mat</p>."),
        ("A catalog on a cat.", ["cat"], "A catalog on a <p>cat</p>."),
        ("A cat on a mat.", ["a mat", "A cat"], "A cat on a mat."),  # not in this order
        ("A cat's tail.", ["A cat"], "A cat's tail."),  # its caption would change
        ("A cat.", ["a dog"], "A cat."),
        ("", [], ""),
    ],
)
def test_phrases_are_marked_where_the_caption_stays_as_it_is(caption: str, phrases: list[str], marked: str) -> None:
    assert mark_phrases(caption, phrases) == marked


def test_phrases_outside_the_caption_belong_to_the_masks(tmp_path: Path, benchmark_val: Benchmark[Any]) -> None:
    masks = [encode_rle(mask) for mask in (FIRST, SECOND)]
    inner = {"caption": "Somebody.", "phrases": ["A man", "a red shirt"], "pred_masks": masks}
    write_json(tmp_path / "sa_10.json", {"sa_10.jpg": inner})  # an older form
    read = find_captions(tmp_path)(benchmark_val.load(0))
    assert read is not None
    record = benchmark_val.score(benchmark_val.load(0), read())
    assert (record["recalled"], record["caption"]) == (2, "Somebody.")
    assert find_captions(tmp_path)(benchmark_val.load(1)) is None


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"phrases": [], "pred_masks": []}, "it has no field 'caption'"),
        ({"caption": "A", "phrases": [1], "pred_masks": []}, r"phrases is \[1\]"),
        ({"caption": "A", "phrases": [], "pred_masks": [{"size": [4, 4], "counts": "0"}]}, "pred_masks 0: .*size"),
        ({"caption": "A", "phrases": [], "pred_masks": [{"size": list(SIZE), "counts": [3]}]}, "pred_masks 0: RLE"),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, benchmark_val: Benchmark[Any], values: dict[str, Any], reason: str
) -> None:
    write_json(tmp_path / "sa_10.json", values)
    read = find_captions(tmp_path)(benchmark_val.load(0))
    assert read is not None
    with pytest.raises(ValueError, match=rf"sa_10\.json: {reason}"):
        read()
