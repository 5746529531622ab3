"""Check that grounded phrases never overlap, and that none of their objects is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.data.phrases import Phrase, find_phrases, separate, strip_caption

CAPTION = "a man in a red shirt, and a ball"


def show(caption: str, phrases: list[Phrase]) -> list[tuple[str, tuple[int, ...]]]:
    return [(caption[one.start : one.end], one.objects) for one in phrases]


@pytest.mark.parametrize(
    "spans, wanted",
    [
        ([(0, 20), (9, 20)], [("a man in", (0,)), ("a red shirt", (1,))]),  # nested at the end
        ([(0, 20), (0, 5)], [("a man", (1,)), ("in a red shirt", (0,))]),  # nested at the start
        ([(0, 32), (9, 20)], [("a man in", (0,)), ("a red shirt", (1,))]),  # nested in the middle
        ([(0, 11), (9, 20)], [("a man in", (0,)), ("a red shirt", (1,))]),  # overlapping
        ([(9, 20), (0, 8)], [("a man in", (1,)), ("a red shirt", (0,))]),  # in another order
        ([(26, 32), (26, 32), (0, 5)], [("a man", (2,)), ("a ball", (0, 1))]),  # shared
        ([(9, 20), (9, 21)], [("a red shirt", (1, 0))]),  # nothing but a comma is left
        ([(0, 5), (0, 2), (2, 5)], [("a ", (0, 1)), ("man", (2,))]),  # covered by others
    ],
)
def test_overlapping_phrases_are_cut_apart(spans: list, wanted: list) -> None:
    phrases = [Phrase(start, end, (place,)) for place, (start, end) in enumerate(spans)]
    assert show(CAPTION, separate(CAPTION, phrases)) == wanted


@pytest.mark.parametrize("span", [(3, 3), (5, 2), (-1, 4), (0, 33), (20, 22)])
def test_a_phrase_without_a_word_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"phrase {span[0]}:{span[1]} of the caption 'a man .* of 32 characters"):
        separate(CAPTION, [Phrase(*span, (0,))])


@given(st.text('ab ,"', min_size=1, max_size=14), st.data())
def test_separate_phrases_are_disjoint_and_keep_every_object(caption: str, data: st.DataObject) -> None:
    spans = [(start, end) for start in range(len(caption)) for end in range(start + 1, len(caption) + 1)]
    spans = [(start, end) for start, end in spans if any(one.isalnum() for one in caption[start:end])]
    chosen = data.draw(st.lists(st.sampled_from(spans), max_size=5)) if spans else []
    found = separate(caption, [Phrase(start, end, (place,)) for place, (start, end) in enumerate(chosen)])
    assert sorted(row for one in found for row in one.objects) == list(range(len(chosen)))
    assert all(left.end <= right.start for left, right in zip(found, found[1:], strict=False))
    for one in found:
        assert any(character.isalnum() for character in caption[one.start : one.end])
        for row in one.objects:  # a phrase lies within those of its objects, or has the first word of theirs
            start, end = chosen[row]
            first = next(place for place in range(start, end) if caption[place].isalnum())
            assert start <= one.start < one.end <= end or one.start <= first < one.end
    text, moved = strip_caption(caption, found)
    shown = [(text[one.start : one.end], one.objects) for one in moved]
    assert [(part.strip(' "'), row) for part, row in shown] == [(p.strip(' "'), r) for p, r in show(caption, found)]


def test_offsets_move_with_the_quotes_and_spaces_that_are_removed() -> None:
    text, (phrase,) = strip_caption('" A red ball."', [Phrase(4, 12, (0,))])
    assert text == "A red ball." and text[phrase.start : phrase.end] == "red ball"


def test_phrases_are_found_as_whole_words_and_each_takes_its_own_occurrence() -> None:
    caption = "A woman, a Man and a man."
    found = find_phrases(caption, ["a man", "a woman", "a man", "a dog", "A MAN", " "])
    assert show(caption, found) == [("a Man", (0,)), ("A woman", (1,)), ("a man", (2,)), ("a man", (4,))]
