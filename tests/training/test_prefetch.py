"""Batches arrive in order and unchanged, inline or from workers; what goes wrong there is told here."""

import multiprocessing
import os
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support.toy_stage import ToyBatches

from sa2va.training.prefetch import Prefetcher, SeededSource

Pair = namedtuple("Pair", ["one", "two"])


@dataclass(frozen=True)
class OddBatches:
    """One batch of everything a batch may hold; at step 3 the process dies, at step 5 it fails."""

    def __call__(self, step: int):
        if step == 3:
            os._exit(7)
        if step == 5:
            raise KeyError("colour")
        return {
            "step": step,
            "threads": (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]),
            "large": torch.arange(5000) + step,
            "half": torch.full((40, 50), 0.5, dtype=torch.bfloat16),
            "mask": torch.ones(3, 70, 70, dtype=torch.bool),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 4),
            "turned": torch.arange(6.0).reshape(2, 3).T,
            "array": np.full((90, 90), step, dtype=np.uint8),
            "pair": Pair([torch.ones(2)], "text"),
        }


def test_inline_and_workers_give_the_same_batches_in_order():
    source = SeededSource(ToyBatches(1200), seed=5, stage="toy")
    with Prefetcher(source, 2, 9, num_workers=0) as inline:
        expected = [(step, batch["points"].clone()) for step, batch in inline]
    with Prefetcher(source, 2, 9, num_workers=2, depth=2) as ahead:
        found = [(step, batch["points"]) for step, batch in ahead]
    assert [step for step, _ in found] == [step for step, _ in expected] == list(range(2, 9))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))


def name_start_method(step: int) -> tuple[str, bool]:
    """Tell how the process that runs this was started, and whether it has a memory of its parent's."""
    return getattr(multiprocessing.current_process(), "_start_method", ""), "left by a parent" in MEMORY


MEMORY: list[str] = []


def test_workers_are_started_afresh_after_the_parent_has_used_its_threads() -> None:
    """A fork would inherit the locks of threads that it does not have, and hang at its first product of matrices."""
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    MEMORY.append("left by a parent")
    try:
        assert float((torch.ones(600, 600) @ torch.ones(600, 600))[0, 0]) == 600
        with Prefetcher(name_start_method, 0, 2, num_workers=2) as batches:
            assert [batch for _, batch in batches] == [("spawn", False)] * 2
    finally:
        torch.set_num_threads(kept)
        MEMORY.clear()


def test_everything_crosses_and_a_dead_worker_is_told():
    with Prefetcher(OddBatches(), 1, 9) as batches:
        iterator = iter(batches)
        for step in (1, 2):
            number, batch = next(iterator)
            assert number == batch["step"] == step
            assert batch["threads"] == (1, "1")
            assert torch.equal(batch["large"], torch.arange(5000) + step)
            assert batch["half"].dtype == torch.bfloat16 and bool((batch["half"] == 0.5).all())
            assert batch["mask"].dtype == torch.bool and batch["mask"].shape == (3, 70, 70)
            assert batch["scalar"].shape == () and batch["scalar"].item() == 2.5
            assert batch["empty"].shape == (0, 4)
            assert torch.equal(batch["turned"], torch.arange(6.0).reshape(2, 3).T)
            assert batch["array"].flags.writeable and int(batch["array"][0, 0]) == step
            assert isinstance(batch["pair"], Pair) and batch["pair"].two == "text"
            batch["large"][0] = 1
        with pytest.raises(RuntimeError, match="batch of step 3 failed.*exit code 7"):
            next(iterator)


def test_a_failure_in_a_worker_carries_its_step_and_traceback():
    with Prefetcher(OddBatches(), 4, 9) as batches:
        iterator = iter(batches)
        next(iterator)
        with pytest.raises(RuntimeError, match="batch of step 5 failed: .*KeyError: 'colour'") as caught:
            next(iterator)
    assert "in __call__" in caught.value.__notes__[0]


def test_a_value_error_stays_one():
    source = ToyBatches(2, fail_at=1)
    with Prefetcher(source, 1, 3, num_workers=0) as batches, pytest.raises(ValueError) as caught:
        next(iter(batches))
    assert str(caught.value) == "the batch of step 1 failed: no points for 1"


def test_a_source_that_cannot_travel_is_told_at_once():
    with pytest.raises(Exception, match="lambda") as caught:
        Prefetcher(lambda step: step, 0, 2)
    assert "must be picklable" in caught.value.__notes__[0]
