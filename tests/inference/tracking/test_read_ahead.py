"""Check that prefetching changes only when items are prepared."""

import gc
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sa2va.inference.tracking.read_ahead import ReadAhead


def wait_for(condition: Callable[[], bool]) -> bool:
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.01)
    return False


def same(item: int) -> int:
    return item


def double(item: int) -> int:
    time.sleep(0.001 * (item % 3))  # later items are ready before earlier ones
    return 2 * item


def test_items_come_in_order_and_end() -> None:
    ahead = ReadAhead(iter(range(50)), double)
    assert list(ahead) == list(range(0, 100, 2)) and list(ahead) == []


def test_only_a_few_are_prepared() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for index in range(100):
            made.append(index)
            yield index

    ahead = ReadAhead(items(), same, depth=3)
    assert made == []  # nothing happens before the first one is asked for
    assert next(ahead) == 0
    assert wait_for(lambda: len(made) == 4)  # the one given out and three ahead
    time.sleep(0.05)
    assert len(made) == 4
    ahead.close()


def test_an_error_comes_where_it_was_due() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("broken")

    ahead, seen = ReadAhead(items(), same), []
    with pytest.raises(OSError, match="broken"):
        for item in ahead:
            seen.append(item)
    assert seen == [1, 2] and next(ahead, None) is None


def test_an_error_of_the_preparation_comes_where_it_was_due() -> None:
    def invert(item: int) -> float:
        return 1 / (2 - item)

    ahead, seen = ReadAhead(iter(range(9)), invert), []
    with pytest.raises(ZeroDivisionError):
        for item in ahead:
            seen.append(item)
    assert seen == [0.5, 1.0] and next(ahead, None) is None


def test_items_are_prepared_side_by_side() -> None:
    both = threading.Barrier(2, timeout=10)

    def meet(item: int) -> int:
        both.wait()
        return item

    assert list(ReadAhead(iter(range(4)), meet)) == [0, 1, 2, 3]


@pytest.mark.parametrize("depth", [1, 2])
def test_closing_from_another_thread_wakes_the_reader(depth: int) -> None:
    """close() also works while the next item is being prepared, for any number of readers."""
    asked, made = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        asked.set()
        assert made.wait(10)
        yield 1

    ahead, ended = ReadAhead(items(), same, depth=depth), []
    assert next(ahead) == 0
    readers = [threading.Thread(target=lambda: ended.append(next(ahead, "end")), daemon=True) for _ in range(2)]
    for reader in readers:
        reader.start()
    assert asked.wait(10)
    time.sleep(0.05)  # the readers wait by now
    closer = threading.Thread(target=ahead.close, daemon=True)
    closer.start()
    assert wait_for(lambda: ended == ["end", "end"])
    made.set()
    for thread in (*readers, closer):
        thread.join(5)
        assert not thread.is_alive()


def test_closing_while_items_are_read_never_hangs() -> None:
    for number in range(100):
        ahead = ReadAhead(iter(range(10**9)), same, depth=1 + number % 2)
        reader = threading.Thread(target=lambda items: [None for _ in items], args=(ahead,), daemon=True)
        reader.start()
        time.sleep(0.0002 * (number % 5))
        closer = threading.Thread(target=ahead.close, daemon=True)
        closer.start()
        for thread in (reader, closer):
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize("num_read", [0, 1, 5])
@pytest.mark.parametrize("forget", [False, True])
def test_the_thread_ends_and_the_source_is_closed(num_read: int, forget: bool) -> None:
    before, closed = threading.active_count(), []

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    ahead = ReadAhead(items(), same)
    for index in range(num_read):
        assert next(ahead) == index
    if not forget:
        ahead.close()
        ahead.close()
        assert threading.active_count() == before
        assert next(ahead, None) is None
    del ahead
    gc.collect()
    assert wait_for(lambda: threading.active_count() == before)
    assert len(closed) == (num_read > 0)  # a generator that never ran has nothing to close
