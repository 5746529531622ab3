"""Check that random numbers depend on the step alone, and that a seeded block restores the generators."""

import random

import numpy as np
import pytest
import torch

from sa2va.training.seeding import seed_all, seeded


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_a_block_draws_from_its_seed_and_leaves_the_process_alone() -> None:
    seed_all(3, "outer", 0)
    expected = [draw(), draw()]
    seed_all(3, "outer", 0)
    assert draw() == expected[0]
    with seeded(5):
        one = torch.rand(4)
        seed_all(7, "inner", 1)
        draw()
    with pytest.raises(RuntimeError, match="over"), seeded(5):
        assert torch.equal(torch.rand(4), one)
        random.seed(0)
        raise RuntimeError("over")
    assert draw() == expected[1]
