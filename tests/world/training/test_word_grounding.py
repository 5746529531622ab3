"""Check that the words of a question are located in its tokens, each with the objects still possible."""

import numpy as np
import pytest
import torch
from support.small_model import build_model

from sa2va.types import Sample, Span
from sa2va.world.tasks.catalog import TASKS
from sa2va.world.tasks.grounded_turn import GroundedTurn
from sa2va.world.training.word_grounding import Words, attention_loss, ground_questions

SIDE = 4


@pytest.fixture(scope="module")
def processor():
    return build_model()[1]


def test_a_question_whose_words_end_the_one_before_is_found_in_its_own_place(processor):
    questions = ("Please segment the star left of the red circle.", "the red circle.")
    turns = tuple(
        GroundedTurn(
            question=q, answer="no", possible=(Span(start=q.index("circle"), end=q.index("circle") + 6, objects=(0,)),)
        )
        for q in questions
    )
    sample = Sample.of_arrays(frames=np.zeros((1, 8, 8, 3), np.uint8), turns=turns, masks=np.ones((1, 1, 8, 8), bool))
    batch = processor([sample], for_masks=False)
    columns = (
        ground_questions([sample], batch.input_ids, [0], SIDE, processor.tokenizer).possible.positions[:, 1].tolist()
    )
    seen = processor.tokenizer.decode(batch.input_ids[0, columns[0] : columns[1] + 1])
    assert columns[0] < columns[1] and seen.count("circle") == 2


@pytest.mark.parametrize("task", ["refseg", "video_refseg"])
def test_each_heard_word_is_the_token_at_its_place(processor, task):
    samples = [TASKS[task](0, "train", index) for index in range(3)]
    keyframes = list(range(0, len(samples[0].frames), 5))
    batch = processor(samples, [keyframes] * 3, for_masks=False)
    found = ground_questions(samples, batch.input_ids, keyframes, SIDE, processor.tokenizer).possible
    positions, cover = found.positions, found.cover
    words = [
        turn.question[span.start : span.end]
        for sample in samples
        for turn in sample.turns
        for span in turn.possible
        if sample.masks[list(span.objects)][:, keyframes].any()
    ]
    ids = batch.input_ids[positions[:, 0], positions[:, 1]]
    read = [processor.tokenizer.decode([int(i)]).strip() for i in ids]
    assert len(words) == len(read) > 10
    assert all(word.endswith(token) for word, token in zip(words, read, strict=True))
    assert cover.shape == (len(words), len(keyframes) * SIDE**2)
    assert (cover.sum(1) > 0).all()


def test_the_cover_is_the_share_of_each_cell(processor):
    masks = np.zeros((2, 1, 64, 64), bool)
    masks[0, 0, :16, :16] = True  # the first of sixteen cells
    masks[1, 0, 48:, 56:] = True  # half of the last one
    heard = (Span(start=8, end=14, objects=(0, 1)),)
    turn = GroundedTurn(question="Segment things.", answer="No.", possible=heard)
    sample = Sample.of_arrays(frames=np.zeros((1, 64, 64, 3), np.uint8), turns=(turn,), masks=masks)
    batch = processor([sample], for_masks=False)
    found = ground_questions([sample], batch.input_ids, [0], SIDE, processor.tokenizer)
    assert found.asked.tolist() == found.attended.positions.tolist() and found.exists.all()
    expected = torch.zeros(1, 16)
    expected[0, 0], expected[0, 15] = 1, 0.5
    torch.testing.assert_close(found.possible.cover, expected)
    torch.testing.assert_close(
        found.attended.cover, expected
    )  # without a noun phrase, words attend to the objects still possible


def test_a_word_looks_at_what_its_own_name_fits(processor):
    masks = np.zeros((2, 1, 64, 64), bool)
    masks[0, 0, :16, :16] = masks[1, 0, 48:, 48:] = True
    question = "Segment the circle near the star."
    turn = GroundedTurn(
        question=question,
        answer="No.",
        possible=(Span(start=12, end=18, objects=(0,)), Span(start=28, end=32, objects=(0,))),
        nouns=(Span(start=28, end=32, objects=(1,)),),
    )
    sample = Sample.of_arrays(frames=np.zeros((1, 64, 64, 3), np.uint8), turns=(turn,), masks=masks)
    batch = processor([sample], for_masks=False)
    found = ground_questions([sample], batch.input_ids, [0], SIDE, processor.tokenizer)
    torch.testing.assert_close(found.possible.positions, found.attended.positions)
    assert found.possible.cover.argmax(1).tolist() == [0, 0]
    assert found.attended.cover.argmax(1).tolist() == [0, 15]


def test_words_of_plain_questions_look_as_well(processor):
    samples = [TASKS["conversation"](0, "train", index) for index in range(12)]
    batch = processor(samples, for_masks=False)
    found = ground_questions(samples, batch.input_ids, [0], SIDE, processor.tokenizer)
    assert len(found.possible.positions) == 0 and len(found.attended.positions) > 10
    assert (
        len(found.asked) == len(found.exists) > len(found.attended.positions) == found.exists.sum()
    )  # some ask for absent objects


def test_questions_without_words_to_hear_give_nothing(processor):
    samples = [TASKS["caption"](0, "train", 0)]
    batch = processor(samples, for_masks=False)
    found = ground_questions(samples, batch.input_ids, [0], SIDE, processor.tokenizer)
    assert found.asked.shape == (0, 2) and found.exists.shape == (0,)
    for words in (found.possible, found.attended):
        assert words.positions.shape == (0, 2) and words.cover.shape == (0, SIDE**2)


def test_a_word_outside_its_question_is_refused():
    with pytest.raises(ValueError, match="outside the question of 11 characters"):
        GroundedTurn(question="Segment it.", answer="No.", possible=(Span(start=8, end=99, objects=()),))


def test_clips_without_masks_are_left_out(processor):
    samples = [TASKS["video_caption"](0, "train", 0)]
    batch = processor(samples, [[0, 5]], for_masks=False)
    found = ground_questions(samples, batch.input_ids, [0, 5], SIDE, processor.tokenizer)
    assert found.possible.positions.shape == found.attended.positions.shape == (0, 2)


def test_attention_is_held_against_the_objects_of_a_word():
    """Attention on a picture of four tokens at different positions in two rows: right, wrong and half right."""
    is_visual = torch.zeros(2, 10, dtype=torch.bool)
    is_visual[0, 1:5] = is_visual[1, 3:7] = True
    attention = torch.zeros(2, 2, 10, 10)
    attention[0, :, 8, 2] = 1  # cell 1
    attention[1, 0, 9, 3] = attention[1, 1, 9, 4] = 1  # one head at cell 0, one at cell 1
    cover = torch.tensor([[0, 0.9, 0, 0], [0, 0, 0.1, 0], [0.8, 0.1, 0, 0]])
    places = torch.tensor([[0, 8], [0, 8], [1, 9]])
    words = [Words(places[i : i + 1], cover[i : i + 1]) for i in range(3)]
    losses = [float(attention_loss(attention, is_visual, one).mean) for one in words]
    assert losses[0] == pytest.approx(0, abs=1e-4)
    assert losses[1] > 10
    assert losses[2] == pytest.approx(np.log(2), abs=1e-4)  # a tenth of a cell is not the object
    together = float(attention_loss(attention, is_visual, Words(places, cover)).mean)
    assert together == pytest.approx(np.mean(losses), rel=1e-5)
    nothing = attention_loss(attention, is_visual, Words(places[:0], cover[:0]))
    assert nothing.count == nothing.total == 0
