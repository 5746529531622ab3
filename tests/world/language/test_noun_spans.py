"""Names in questions are found, each word with all that its name fits."""

import pytest

from sa2va.world.language.grammar import PLURALS, Attributes
from sa2va.world.language.noun_spans import find_noun_spans
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import COLORS, SHAPES
from sa2va.world.tasks.catalog import TASKS


@pytest.fixture(scope="module")
def scene():
    scenes = (make_scene(0, "train", index) for index in range(200))
    return next(scene for scene in scenes if len({thing.shape for thing in scene.objects}) > 3)


def _fitting(scene, **looks):
    return tuple(i for i, thing in enumerate(scene.objects) if Attributes(**looks).is_true(thing))


def test_a_name_grows_word_by_word_and_ends_with_its_noun(scene):
    one, other = (next(t for t in scene.objects if t.shape != scene.objects[k].shape) for k in (0, 1))
    question = f"Where is the {one.color} {one.shape} left of the {other.shape}?"
    found = {question[span.start : span.end]: span.objects for span in find_noun_spans(scene, question)}
    expected = {
        one.color: _fitting(scene, color=one.color),
        one.shape: _fitting(scene, color=one.color, shape=one.shape),
    }
    if one.shape != other.shape:
        expected[other.shape] = _fitting(scene, shape=other.shape)
    assert found == {word: objects for word, objects in expected.items() if len(objects) < len(scene.objects)}


def test_plurals_name_and_the_word_object_adds_nothing(scene):
    shape, color = scene.objects[0].shape, scene.objects[1].color
    plural = next(word for word, noun in PLURALS.items() if noun == shape)
    question = f"Are there more {plural} than {color} objects?"
    found = [(question[span.start : span.end], span.objects) for span in find_noun_spans(scene, question)]
    assert found == [
        (plural, _fitting(scene, shape=shape)),
        (color, _fitting(scene, color=color)),
        ("objects", _fitting(scene, color=color)),
    ]


def test_a_name_that_fits_nothing_is_kept(scene):
    pairs = {thing.pair for thing in scene.objects}
    color, shape = next((color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in pairs)
    *_, last = find_noun_spans(scene, f"Is there a {color} {shape}?")
    assert last.objects == ()


@pytest.mark.parametrize("question", ["How many objects are there?", "What color is it?", "", "Describe the image."])
def test_what_names_nothing_or_everything_is_left_out(scene, question):
    assert find_noun_spans(scene, question) == ()


@pytest.mark.parametrize("task", ["conversation", "video_conversation", "refseg"])
def test_turns_carry_the_names_of_their_questions(task):
    sample = TASKS[task](3, "train", 5)
    assert any(turn.nouns for turn in sample.turns)
    for turn in sample.turns:
        assert turn.nouns == find_noun_spans(sample.meta["scene"], turn.question)
