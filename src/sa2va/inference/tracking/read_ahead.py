"""Read ahead (prefetch): prepare the next items of an iterator in a thread.

Flow: iterator (decoding, resizing) -> one worker thread -> a few futures -> frames.py.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Prefetching iterator: the same items in the same order, up to `depth` of them ready.

    An error is raised in place of its item. The thread starts with the first item. It ends with close(), which any
    thread may call, or when this object is garbage-collected.
    """

    def __init__(self, items: Iterator[T], depth: int = 3) -> None:
        self._items, self._depth = items, depth
        self._worker = ThreadPoolExecutor(1)
        self._ahead: deque[Future[Any]] = deque()
        self._closed: Future[Any] = Future()
        self._lock = Lock()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            if self._closed.done():
                raise StopIteration
            while len(self._ahead) <= self._depth:
                self._ahead.append(self._worker.submit(next, self._items))
            due = self._ahead.popleft()
        wait((due, self._closed), return_when=FIRST_COMPLETED)
        if self._closed.done():
            raise StopIteration
        try:
            return due.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the thread and close the iterator; a waiting reader gets StopIteration."""
        with self._lock:
            is_first = not self._closed.done()
            if is_first:
                self._closed.set_result(None)
        self._worker.shutdown(cancel_futures=True)
        if is_first and isinstance(self._items, Generator):
            self._items.close()
