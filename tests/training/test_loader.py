"""Check order and content of batches, inline and from workers, the share of each process, and failures."""

import multiprocessing
import os
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.toy_data import ToyData

from sa2va.training import loader
from sa2va.training.loader import StepSampler, load_batches
from sa2va.training.stage import Key, StageConfig

Pair = namedtuple("Pair", ["one", "two"])
MEMORY: list[str] = []
CONFIG = StageConfig(name="toy", steps=9, batch_size=1, lr=0.1, num_workers=0)


class OnePiece:
    """Data of a stage with an indivisible batch."""

    def keys(self, step: int) -> list[Key]:
        return [(step,)]

    def collate(self, items: Sequence[Any]) -> Any:
        assert len(items) == 1
        return items[0]

    def __len__(self) -> int:
        return 9


class OddBatches(OnePiece):
    """Data of every supported type; at step 5 the process dies, at step 9 it fails."""

    def __getitem__(self, key: Key) -> dict[str, Any]:
        step = int(key[0])
        if step == 5:
            os._exit(7)
        if step == 9:
            raise KeyError("color")
        return {
            "step": step,
            "threads": (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]),
            "large": torch.arange(5000) + step,
            "shared": torch.arange(50_000),
            "frames": np.full((3, 200, 200), step, dtype=np.uint8),
            "half": torch.full((40, 50), 0.5, dtype=torch.bfloat16),
            "mask": torch.ones(3, 70, 70, dtype=torch.bool),
            "scalar": torch.tensor(2.5),
            "empty": torch.from_numpy(np.zeros((0, 4))),
            "turned": torch.arange(6.0).reshape(2, 3).T,
            "array": np.full((90, 90), step, dtype=np.uint8),
            "pair": Pair([torch.ones(2)], "text"),
        }


class StartMethod(OnePiece):
    """Return how the process of an item was started, and whether it inherited its parent's memory."""

    def __getitem__(self, key: Key) -> tuple[str, bool]:
        return getattr(multiprocessing.current_process(), "_start_method", ""), "left by a parent" in MEMORY


class Local(OnePiece):
    def __init__(self) -> None:
        self.function = lambda: 0

    def __getitem__(self, key: Key) -> int:
        return self.function()


def read(data: Any, first: int, last: int, **options: Any) -> Any:
    settings = {name: options.pop(name) for name in ("num_workers", "accumulate") if name in options}
    config = replace(CONFIG, **settings)
    return load_batches(data, config, range(first, last), **options)


def test_inline_and_workers_give_the_same_batches_in_order():
    expected = list(read(ToyData(1200), 2, 9))
    found = list(read(ToyData(1200), 2, 9, num_workers=2))
    assert len(found) == len(expected) == 7
    assert all(torch.equal(a.points, b.points) for a, b in zip(found, expected, strict=True))
    assert not torch.equal(expected[0].points, expected[1].points)


@pytest.mark.parametrize(("num_processes", "accumulate"), [(3, 1), (1, 4), (2, 2)])
def test_processes_and_parts_share_the_items_of_a_step(num_processes, accumulate):
    (whole,) = read(ToyData(10), 4, 5)
    shares = [
        batch
        for rank in range(num_processes)
        for batch in read(ToyData(10), 4, 5, rank=rank, num_processes=num_processes, accumulate=accumulate)
    ]
    assert len(shares) == num_processes * accumulate
    together = torch.cat([share.points for share in shares])
    assert sorted(together.tolist()) == sorted(whole.points.tolist())


def test_neighbors_share_a_batch_and_processes_take_neighboring_batches():
    config = replace(CONFIG, accumulate=2)
    mine = [list(StepSampler(ToyData(12), config, range(1), rank=rank, num_processes=3)) for rank in range(3)]
    rows = [[[int(row) for _, row in batch] for batch in share] for share in mine]
    assert rows == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]


def test_the_keys_of_a_step_do_not_depend_on_where_a_run_began():
    late = list(StepSampler(ToyData(4), CONFIG, range(5, 7)))
    assert list(StepSampler(ToyData(4), CONFIG, range(7)))[5:] == late


def test_a_batch_of_one_piece_is_refused_in_two_processes():
    with pytest.raises(
        ValueError, match="stage toy: step 0 has 1 items for 2 processes .*use fewer processes"
    ) as caught:
        next(read(StartMethod(), 0, 2, num_processes=2))
    assert "\n" not in str(caught.value)


def test_workers_are_started_afresh_after_the_parent_has_used_its_threads() -> None:
    """A fork inherits locks of threads that it does not have, and would hang at its first matrix product."""
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    MEMORY.append("left by a parent")
    try:
        assert float((torch.ones(600, 600) @ torch.ones(600, 600))[0, 0]) == 600
        assert list(read(StartMethod(), 0, 2, num_workers=2)) == [("spawn", False)] * 2
    finally:
        torch.set_num_threads(kept)
        MEMORY.clear()


def test_everything_crosses_and_a_dead_worker_is_told():
    batches = read(OddBatches(), 1, 9, num_workers=1)
    batch = next(batches)
    next(batches)  # only now is the fatal one asked for
    assert batch["step"] == 1
    assert batch["threads"] == (1, "1")
    assert torch.equal(batch["large"], torch.arange(5000) + 1)
    assert batch["shared"].is_shared() and torch.equal(batch["shared"], torch.arange(50_000))
    assert batch["half"].dtype == torch.bfloat16 and bool((batch["half"] == 0.5).all())
    assert batch["mask"].dtype == torch.bool and batch["mask"].shape == (3, 70, 70)
    assert batch["scalar"].shape == () and batch["scalar"].item() == 2.5
    assert batch["empty"].shape == (0, 4)
    assert torch.equal(batch["turned"], torch.arange(6.0).reshape(2, 3).T)
    assert batch["array"].flags.writeable and int(batch["array"][0, 0]) == 1
    assert batch["frames"].shape == (3, 200, 200) and int(batch["frames"][2, 9, 9]) == 1
    assert isinstance(batch["pair"], Pair) and batch["pair"].two == "text"
    batch["large"][0] = 1
    with pytest.raises(RuntimeError, match="batch of step [345] failed: .*worker.* exited unexpectedly") as caught:
        list(batches)  # what was ready beside the fatal one may be lost with the process
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("free", "shared"), [(1e9, True), (500_000, False)])
def test_tensors_are_shared_while_there_is_plenty_of_memory(free, shared, monkeypatch):
    """A container's /dev/shm has 64 MB by default, and a process is killed when it is full."""
    monkeypatch.setattr(loader, "free_shared_memory", lambda: free)
    whole = torch.arange(100_000, dtype=torch.float)
    for tensor in (whole, whole[10:90_000], whole.reshape(100, 1000).T):
        make, arguments = loader.send_tensor(tensor)
        assert any(isinstance(one, bytes) for one in arguments) is not shared
        if not shared:
            assert torch.equal(make(*arguments), tensor)


def test_a_failure_in_a_worker_carries_its_step_and_traceback():
    batches = read(OddBatches(), 8, 12, num_workers=1)
    next(batches)
    with pytest.raises(RuntimeError, match="batch of step 9 failed: .*KeyError: 'color'") as caught:
        next(batches)
    assert "in __getitem__" in caught.value.__notes__[0]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_value_error_stays_one(num_workers):
    with pytest.raises(ValueError) as caught:
        next(read(ToyData(2, fail_at=1), 1, 3, num_workers=num_workers))
    assert str(caught.value) == "the batch of step 1 failed: no points for 1"


def test_data_that_cannot_travel_is_told_at_once():
    with pytest.raises(Exception, match="lambda") as caught:
        next(read(Local(), 0, 2, num_workers=1))
    assert "must be picklable" in caught.value.__notes__[0]
