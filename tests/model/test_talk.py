"""Check that a conversation sees a picture once and answers as if it saw it anew."""

import numpy as np
import pytest
from small_model import build_model, draw_sample

from sa2va.model.mllm import Decoding
from sa2va.model.predictor import Predictor
from sa2va.model.results import Options, Request
from sa2va.model.sam2 import Sam2

NUM_QUESTIONS = 3


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the frames that SAM 2's image encoder is shown."""
    counted: list[int] = []
    encode = Sam2.encode_frames
    monkeypatch.setattr(Sam2, "encode_frames", lambda self, x: counted.append(len(x)) or encode(self, x))
    return counted


def answer_with_masks(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, num_words: int = 1) -> None:
    """Let every answer be some words and one mask."""
    ids = predictor.processor.tokenizer.encode("It is", add_special_tokens=False)[:num_words]
    coming = [*ids, predictor.processor.seg_id, predictor.processor.end_ids[0]]
    said = iter(coming * NUM_QUESTIONS)
    monkeypatch.setattr(Decoding, "_pick", lambda self: [next(said)])


def test_a_picture_is_seen_once_and_no_mask_changes(seen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(*build_model())
    picture = draw_sample(0).frames[0]
    answer_with_masks(predictor, monkeypatch)
    talk = predictor.open(picture)
    answers = [talk.ask(f"Where is it, {number}?") for number in range(NUM_QUESTIONS)]
    assert seen == [1] and all(len(answer.objects) == 1 for answer in answers)
    anew = predictor._see([predictor._open(Request(picture, "Where?"), Options())])
    for one, other in zip(
        (talk._features.embeds, *talk._features.high_res), (anew.embeds, *anew.high_res), strict=True
    ):
        assert np.array_equal(one.numpy(), other.numpy())


def test_a_picture_without_masks_is_not_shown_to_sam2(seen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(*build_model())
    end = predictor.processor.end_ids[0]
    monkeypatch.setattr(Decoding, "_pick", lambda self: [end])
    talk = predictor.open(draw_sample(0).frames[0])
    assert not talk.ask("What?").objects and not talk.ask("And now?").objects
    assert seen == []


def test_a_clip_is_followed_anew_for_every_answer(seen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(*build_model())
    clip = np.concatenate([draw_sample(seed).frames for seed in range(3)])
    answer_with_masks(predictor, monkeypatch)
    talk = predictor.open(clip)
    first, second = (talk.ask("Where is it?") for _ in range(2))
    assert talk._features is None and first.masks.shape == second.masks.shape == (1, 3, *clip.shape[1:3])
