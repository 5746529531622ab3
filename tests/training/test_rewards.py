"""Check the rewards of answers against the truth: present, absent, wrong, malformed."""

import numpy as np
import pytest

from sa2va.training.rewards import RewardConfig, Sampled, Truth, has_paired_tags, score_answer
from sa2va.types import Masks


def squares(*lefts: int) -> Masks:
    """Draw one mask per square of 4 px whose left edge is given; -1 = an empty mask. Two frames."""
    masks = np.zeros((len(lefts), 2, 8, 40), bool)
    for row, left in enumerate(lefts):
        if left >= 0:
            masks[row, :, 2:6, left : left + 4] = True
    return masks


FOUND = Truth("It is [SEG].", squares(0))
TWO = Truth("They are [SEG][SEG].", squares(0, 20))
NOT_FOUND = Truth("There is no red square.", squares())
EMPTY_MASK = Truth("It is [SEG].", squares(-1))  # the paper's answer to an absent object


@pytest.mark.parametrize(
    ("truth", "masks", "wanted"),
    [
        (FOUND, squares(0), {"mask": 1, "presence": 1, "number": 1}),
        (FOUND, squares(2), {"mask": 1 / 3, "presence": 1, "number": 1}),
        (FOUND, squares(10), {"mask": 0, "presence": 1, "number": 1}),
        (FOUND, squares(), {"mask": 0, "presence": 0, "number": 0}),
        (FOUND, squares(-1), {"mask": 0, "presence": 0, "number": 1}),
        (FOUND, squares(0, 10), {"mask": 0.5, "presence": 1, "number": 0}),
        (TWO, squares(20, 0), {"mask": 1, "presence": 1, "number": 1}),  # in any order
        (TWO, squares(0), {"mask": 0.5, "presence": 1, "number": 0}),
        (NOT_FOUND, squares(), {"words": 1, "presence": 1, "number": 1}),
        (NOT_FOUND, squares(4), {"words": 1, "presence": 0, "number": 0}),
        (NOT_FOUND, squares(-1), {"words": 1, "presence": 1, "number": 0}),
        (EMPTY_MASK, squares(-1), {"presence": 1, "number": 1}),
        (EMPTY_MASK, squares(), {"presence": 1, "number": 0}),
        (EMPTY_MASK, squares(4), {"presence": 0, "number": 1}),
    ],
)
def test_rewards_of_masks(truth: Truth, masks: Masks, wanted: dict[str, float]) -> None:
    scores = score_answer(Sampled(truth.answer, masks, has_ended=True), truth)
    assert scores == pytest.approx({"format": 1, **wanted})


def test_words_are_scored_only_without_masks_and_format_needs_an_end() -> None:
    said = Sampled("there is no red  square", squares(), has_ended=False)
    assert score_answer(said, NOT_FOUND) == {"words": 1, "presence": 1, "number": 1, "format": 0}
    assert score_answer(Sampled("No.", squares(), True), NOT_FOUND)["words"] == 0
    assert "words" not in score_answer(said, FOUND)


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("It is [SEG].", True),
        ("<p>a square</p>[SEG] and <p>a circle</p>[SEG].", True),
        ("<p>a square[SEG].", False),
        ("a square</p>[SEG].", False),
        ("<p><p>a square</p></p>[SEG].", False),
        ("<p></p>[SEG].", False),
        ("It is <vp>[SEG].", False),
    ],
)
def test_tags_come_in_pairs(text: str, is_right: bool) -> None:
    assert has_paired_tags(text) is is_right


def test_the_reward_is_the_weighted_mean_of_what_applies() -> None:
    config = RewardConfig(mask=3, presence=1, number=0, format=0)
    assert config.total({"mask": 0.5, "presence": 1, "number": 0, "format": 0}) == pytest.approx(2.5 / 4)
    for truth in (FOUND, NOT_FOUND, EMPTY_MASK):
        scores = score_answer(Sampled(truth.answer, truth.masks, has_ended=True), truth)
        assert RewardConfig().total(scores) == 1


def test_a_prompt_without_any_reward_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rewards: presence, number and format are 0"):
        RewardConfig(presence=0, number=0, format=0)
    with pytest.raises(ValueError, match=r"rewards: mask is -1.0; expected 0 or more"):
        RewardConfig(mask=-1.0)
