"""Check that scanpaths do not depend on torch's default dtype and device."""

from collections.abc import Callable
from typing import Any

import pytest
from support.small_model import draw_sample
from support.torch_defaults import CHANGES, check_answers

from sa2va import load_gaze


def look(gazer: Any) -> list[Any]:
    return gazer.predict(draw_sample(1).frames[0], "the red square", num_samples=3, seed=5)


@pytest.mark.parametrize("change", CHANGES)
def test_scanpaths_are_the_same_bit_for_bit_under_other_defaults(
    change: Callable[[], None], usual_defaults: None
) -> None:
    check_answers(change, load_gaze, look)
