"""Read ahead (prefetch): read the next items of an iterator in a thread and prepare them in others.

Flow: iterator (decoding) -> one thread -> prepare (resizing), a few threads -> a few futures -> frames.py.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
NUM_PREPARING = 3  # threads; a frame takes about four times longer to resize than to decode


class ReadAhead(Generic[R]):
    """Prefetching iterator: the prepared items in the same order, up to `depth` of them ready.

    An error is raised in place of its item. The threads start with the first item. They end with close(), which any
    thread may call, or when this object is garbage-collected.
    """

    def __init__(self, items: Iterator[T], prepare: Callable[[T], R], depth: int = 3) -> None:
        self._items, self._prepare, self._depth = items, prepare, depth
        self._reader, self._preparers = ThreadPoolExecutor(1), ThreadPoolExecutor(NUM_PREPARING)
        self._ahead: deque[Future[Any]] = deque()
        self._closed: Future[Any] = Future()
        self._lock = Lock()

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        with self._lock:
            if self._closed.done():
                raise StopIteration
            while len(self._ahead) <= self._depth:
                item: Future[Any] = self._reader.submit(next, self._items)
                self._ahead.append(self._preparers.submit(_finish, item, self._prepare))
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
        """Stop the threads and close the iterator; a waiting reader gets StopIteration."""
        with self._lock:
            is_first = not self._closed.done()
            if is_first:
                self._closed.set_result(None)
        for pool in (self._reader, self._preparers):
            pool.shutdown(cancel_futures=True)
        if is_first and isinstance(self._items, Generator):
            self._items.close()


def _finish(item: Future[T], prepare: Callable[[T], R]) -> R:
    return prepare(item.result())
