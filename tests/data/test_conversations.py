"""Check the reading of conversations: speakers, markers, dropped turns."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.data.conversations import IMAGE_MARKER, Conversation, build_turns, count_characters, read_conversation
from sa2va.data.records import Record


def read(turns: list, marker: str = IMAGE_MARKER) -> Conversation:
    values = [{"from": speaker, "value": text} for speaker, text in turns]
    return read_conversation(
        Record({"conversations": values}, Path("chat.json"), "record 5"), *([marker] if marker else [])
    )


@pytest.mark.parametrize(
    "turns, wanted",
    [
        ([("human", "<image>\nWho?"), ("gpt", "A cat.")], (("Who?", "A cat."),)),
        ([("human", "Who?\n<image>"), ("gpt", "A cat.")], (("Who?", "A cat."),)),
        ([("human", "Look <image> here."), ("gpt", "Yes.")], (("Look\nhere.", "Yes."),)),
        ([("human", "Who?"), ("gpt", "A cat.")], (("Who?", "A cat."),)),
        (
            [("human", "Who?"), ("gpt", "A."), ("human", "<image>\nWhy?"), ("gpt", "B.")],
            (("Who?", "A."), ("Why?", "B.")),
        ),
        ([("human", "<image>\nWho?\n<image>"), ("gpt", "See <image>.")], (("Who?", "See <image>."),)),
        ([("gpt", "Hello."), ("human", "Who?"), ("gpt", "A cat.")], (("Who?", "A cat."),)),
        ([("human", "<image>"), ("human", "Who?"), ("gpt", "A cat.")], (("Who?", "A cat."),)),
        ([("human", "One."), ("human", "<image>\nTwo?"), ("gpt", "A."), ("gpt", "B.")], (("One.\nTwo?", "A.\nB."),)),
        ([("human", "Who?"), ("gpt", "A."), ("human", "Why?")], (("Who?", "A."),)),
        ([("human", "Who?"), ("gpt", " "), ("human", "Why?"), ("gpt", "B.")], (("Who?\nWhy?", "B."),)),
    ],
)
def test_a_conversation_becomes_questions_with_answers(turns: list, wanted: Conversation) -> None:
    assert read(turns) == wanted


@pytest.mark.parametrize(
    "turns, reason",
    [
        ([("human", "<image>"), ("gpt", "A cat.")], "conversations has no question with an answer"),
        ([("gpt", "A cat.")], "conversations has no question with an answer"),
        ([("system", "Be brief.")], "turn 0: from is 'system'; expected 'human' or 'gpt'"),
        ([("human", 3)], "turn 0: value is 3; expected a text"),
    ],
)  # fmt: skip
def test_a_damaged_conversation_is_named(turns: list, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"chat\.json: record 5(, |: ){reason}"):
        read(turns)


def test_a_record_without_media_keeps_a_marker_as_text() -> None:
    turns = [("human", "What does <image> mean?"), ("gpt", "<image> is a tag."), ("human", "<image>?"), ("gpt", "Yes.")]
    assert read(turns, "") == (("What does <image> mean?", "<image> is a tag."), ("<image>?", "Yes."))


@given(st.lists(st.tuples(st.sampled_from(("human", "gpt")), st.text(max_size=4)), max_size=9))
def test_no_text_between_first_question_and_last_answer_is_lost(turns: list) -> None:
    said = [(speaker, text.strip()) for speaker, text in turns if text.strip() and IMAGE_MARKER not in text]
    while said and said[0][0] == "gpt":
        del said[0]
    while said and said[-1][0] == "human":
        said.pop()
    if not said:
        return
    conversation = read(turns)
    assert "\n".join(text for pair in conversation for text in pair) == "\n".join(text for _, text in said)
    assert count_characters(conversation) == sum(len(t.question) + len(t.answer) for t in build_turns(conversation))
