"""Check that descriptions of objects can be read back from any text.

Flow: describe -> text -> parse_descriptions -> the same looks.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.world.language.descriptions import describe, parse_descriptions
from sa2va.world.scenes.scene import COLORS, SHAPES, SIZES, TEXTURES, WorldObject

OBJECTS = st.builds(
    WorldObject,
    shape=st.sampled_from(SHAPES),
    color=st.sampled_from(sorted(COLORS)),
    size=st.sampled_from(SIZES),
    texture=st.sampled_from(TEXTURES),
    x=st.just(0.5),
    y=st.just(0.5),
    radius=st.just(0.1),
)


def looks_of(obj: WorldObject) -> dict[str, str]:
    return {"size": obj.size, "texture": obj.texture, "color": obj.color, "shape": obj.shape}


@given(st.lists(OBJECTS, max_size=8))
def test_descriptions_come_back(objects: list[WorldObject]) -> None:
    text = "A checkered background with " + ", ".join(describe(obj) for obj in objects) + "."
    assert parse_descriptions(text) == [looks_of(obj) for obj in objects]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A plain background with nothing on it.", []),
        ("It is a LARGE dotted Pink star!", [("large", "dotted", "pink", "star")]),
        ("the blue ring that moves left", [(None, "plain", "blue", "ring")]),
        ("a string of earrings", []),
        ("star", [(None, "plain", None, "star")]),
    ],
)
def test_other_texts(text: str, expected: list[tuple[str | None, ...]]) -> None:
    assert [tuple(found.values()) for found in parse_descriptions(text)] == expected
