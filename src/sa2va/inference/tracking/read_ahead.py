"""Prepare what comes next in a thread while the present is worked on.

Flow: iterator (decoding, resizing) -> thread -> short queue -> frames.py.
"""

import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """A bounded queue that can be closed: everyone who waits is woken. From Python 3.13 on `Queue.shutdown` does it."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[tuple[T | None, BaseException | None]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, item: T | None, error: BaseException | None = None) -> bool:
        """Wait for room and hand over an item, or the error that stands in its place; return False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._items) < self._depth)
            if not self._is_closed:
                self._items.append((item, error))
                self._changed.notify_all()
            return not self._is_closed

    def take(self) -> tuple[T | None, BaseException | None]:
        """Wait for the next item, or the error in its place.

        Raises:
            StopIteration: the shelf has been closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._items)
            if self._is_closed:
                raise StopIteration
            self._changed.notify_all()
            return self._items.popleft()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._changed.notify_all()


class Lookahead(Generic[T]):
    """The same items in the same order, prepared up to `depth` ahead.

    An error comes where its item was due. The thread starts with the first item and ends with the last one, with
    close(), which any thread may call, or when nobody holds this object any more.
    """

    def __init__(self, items: Iterator[T], depth: int = 2) -> None:
        self._shelf: Shelf[T] = Shelf(depth)
        self._thread = threading.Thread(target=_work, args=(items, self._shelf), daemon=True)
        self._items = items
        self._finalizer = weakref.finalize(self, self._shelf.close)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._finalizer.alive and not self._thread.ident:
            self._thread.start()
        item, error = self._shelf.take()
        if error is None:
            assert item is not None
            return item
        self.close()
        raise error

    def close(self) -> None:
        """End the thread and close the iterator; whoever waits for an item is told that there is none."""
        self._finalizer()
        if self._thread.ident:
            self._thread.join()
        elif isinstance(self._items, Generator):
            self._items.close()


def _work(items: Iterator[T], shelf: Shelf[T]) -> None:
    end: BaseException = StopIteration()
    try:
        for item in items:
            if not shelf.put(item):
                break
    except Exception as error:
        end = error
    finally:
        if isinstance(items, Generator):
            items.close()
    shelf.put(None, end)
