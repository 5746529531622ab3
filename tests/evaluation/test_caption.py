import numpy as np
import pytest
from support.fake_answers import fake

from sa2va.evaluation import caption
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Bar
from sa2va.metrics.iou import pairwise_iou

RED, BLUE = {"color": "red", "shape": "circle"}, {"color": "blue", "shape": "star"}


def quarters() -> np.ndarray:
    masks = np.zeros((4, 8, 8), bool)
    for index, mask in enumerate(masks):
        row, column = divmod(index, 2)
        mask[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] = True
    return masks


def grounded(said: np.ndarray, scores: list[float], target: np.ndarray, other: np.ndarray) -> dict:
    answer = Answer.of(fake("", said[:, None], score=scores))
    return caption.grounded_record(answer, pairwise_iou(said, target), pairwise_iou(other, target))


def test_missed_and_invented_masks_count_zero() -> None:
    masks = quarters()
    record = grounded(masks[[0, 3]], [0.9, 0.2], masks[:2], masks[2:])
    assert record["score"] == pytest.approx(1 / 3)
    assert record["chance_score"] == 0.0
    plain, ranked, iou = caption.grounded_figures([record], iou_bar=Bar(0.65))
    assert plain.value == ranked.value == pytest.approx(51 / 101)
    assert (iou.value, iou.passed) == (pytest.approx(1 / 3), False)
    assert plain.chance == 0.0


def test_scores_rank_across_pictures() -> None:
    """A wrong mask with a low score: ranked last it costs nothing, unranked it comes first."""
    masks = quarters()
    wrong = grounded(masks[[3]], [0.1], masks[:1], masks[:1])
    right = grounded(masks[[0]], [0.9], masks[:1], masks[:1])
    plain, ranked, _ = caption.grounded_figures([wrong, right])
    assert ranked.value == pytest.approx(51 / 101)
    assert plain.value == pytest.approx(51 / 101 / 2)
    assert plain.chance == 1.0


def test_attribute_f1_beside_the_next_description() -> None:
    records = [caption.described_record([RED], [RED], ""), caption.described_record([RED], [BLUE], "")]
    figure = caption.attribute_f1(records, Bar(0.85), "attribute F1")
    assert (figure.value, figure.chance, figure.passed) == (0.5, 0.0, False)
    colors = caption.attribute_f1(records, None, "colours", ("color",))
    assert colors.value == 0.5


def test_long_descriptions_weigh_more() -> None:
    records = [
        caption.described_record([RED, BLUE, BLUE], [RED, BLUE, BLUE], ""),
        caption.described_record([], [RED], ""),
    ]
    assert caption.attribute_f1(records, None, "f1").value == pytest.approx(2 * 6 / (6 + 8))


def test_one_item_has_no_other_to_compare_with() -> None:
    assert caption.attribute_f1([caption.described_record([RED], [RED], "")], None, "f1").chance is None


def test_items_without_the_attribute_do_not_count() -> None:
    moving = RED | {"motion": "jumps"}
    records = [caption.described_record([RED], [RED], ""), caption.described_record([moving], [moving], "")]
    only = caption.attribute_f1(records, None, "F1 of motion", ("motion",))
    assert (only.value, only.num_items) == (1.0, 1)
    nothing = caption.attribute_f1(records[:1], Bar(0.5), "F1 of motion", ("motion",))
    assert (nothing.value, nothing.num_items, nothing.passed) == (None, 0, False)


TEXTS = [
    {"caption": "a red shirt on a man", "references": ["a man in a red shirt", "a shirt"], "group": "a"},
    {"caption": "two dogs", "references": ["two dogs run"], "group": "b"},
]


def test_without_java_the_figures_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", "")
    figures = caption.text_figures(TEXTS, note=", cleaned")
    assert [one.name for one in figures] == ["METEOR, cleaned", "CIDEr, cleaned"]
    assert all(one.value is None and "Java" in one.note for one in figures)
    assert figures[0].to_dict()["note"] == figures[0].note


@pytest.mark.slow
def test_text_figures_are_those_of_the_coco_evaluation() -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor

    truth = {place: list(one["references"]) for place, one in enumerate(TEXTS)}
    said = {place: [one["caption"]] for place, one in enumerate(TEXTS)}  # already in PTB tokens
    figures = caption.text_figures(TEXTS)
    assert figures[0].value == pytest.approx(Meteor().compute_score(truth, said)[0], abs=1e-6)
    assert figures[1].value == pytest.approx(100 * float(Cider().compute_score(truth, said)[0]), abs=1e-6)
    assert [one.num_items for one in figures] == [2, 2]
