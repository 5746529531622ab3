"""Prepare what comes next in a thread while the present is worked on.

Flow: iterator (decoding, resizing) -> thread -> short queue -> session.py.
"""

import threading
import weakref
from collections.abc import Generator, Iterator
from queue import Empty, Queue
from typing import Generic, TypeVar

T = TypeVar("T")


class Lookahead(Generic[T]):
    """The same items in the same order, prepared up to `depth` ahead.

    An error comes where its item was due. The thread starts with the first item and ends with the last one, with
    close(), or when nobody holds this object any more.
    """

    def __init__(self, items: Iterator[T], depth: int = 2) -> None:
        self._queue: Queue[tuple[T | None, BaseException | None]] = Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=_work, args=(items, self._queue, self._stop), daemon=True)
        self._items = items
        self._finalizer = weakref.finalize(self, _end, self._queue, self._stop)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._stop.is_set():
            raise StopIteration
        if not self._thread.ident:
            self._thread.start()
        item, error = self._queue.get()
        if error is None:
            assert item is not None
            return item
        self.close()
        raise error

    def close(self) -> None:
        """End the thread and close the iterator."""
        self._finalizer()
        if self._thread.ident:
            self._thread.join()
        elif isinstance(self._items, Generator):
            self._items.close()


def _work(items: Iterator[T], queue: Queue[tuple[T | None, BaseException | None]], stop: threading.Event) -> None:
    end: BaseException = StopIteration()
    try:
        for item in items:
            queue.put((item, None))
            if stop.is_set():
                break
    except Exception as error:
        end = error
    finally:
        if isinstance(items, Generator):
            items.close()
    if not stop.is_set():
        queue.put((None, end))


def _end(queue: Queue[tuple[T | None, BaseException | None]], stop: threading.Event) -> None:
    """Ask the thread to end, and make room so that it is not stuck where it waits to hand over an item."""
    stop.set()
    try:
        while True:
            queue.get_nowait()
    except Empty:
        return
