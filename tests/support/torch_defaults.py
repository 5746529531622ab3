"""Compare answers under other defaults of torch."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture
def usual_defaults() -> Generator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


def use_float64() -> None:
    torch.set_default_dtype(torch.float64)


def use_meta() -> None:
    torch.set_default_device("meta")


CHANGES = (use_float64, use_meta)


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in zip(one, other, strict=True)
    )


def check_answers(change: Callable[[], None], build: Callable[..., Any], run: Callable[[Any], list[Any]]) -> None:
    """Assert that models built before and after a change of the defaults answer alike, and leave them alone."""
    early = build("tiny", device="cpu")
    before = run(early)
    change()
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    late = build("tiny", device="cpu")
    during = [run(early), run(late)]
    assert (torch.get_default_dtype(), torch.get_default_device()) == (dtype, device)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    assert before and all(same(before, each) for each in (*during, run(early), run(late)))
