"""Answer the items of a block with a model, while the media of the next batch are opened.

Flow: block -> Plan.read -> media in threads -> Predictor.answer_batch -> rows.py -> OUT/parts/<block>.parquet.
    The loop of one process (`answer_blocks`), a shard and an actor of Ray (on_ray.py) all run `Worker.run`.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sa2va.bulk.expressions import Item
from sa2va.bulk.plan import Plan
from sa2va.bulk.rows import Row, read_rows, to_row, write_rows
from sa2va.bulk.sources import Store
from sa2va.inference.requests import Options, Request
from sa2va.inference.results import Answers, BatchResult
from sa2va.media.source import Media
from sa2va.tokens import SEGMENT_REQUEST

READERS = 4  # threads that open media; they wait for the disk or the network most of the time


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process needs to answer blocks of a run; it is pickled for the actors of Ray.

    Attributes:
        folder: of the run.
        store: opens the media.
        load: loads the model.
        batch: items that go through the model together. It is a setting of the plan, since rounding depends on it.
        options: of all requests.
    """

    folder: Path
    store: Store
    load: Callable[[], Answers]
    batch: int = 1
    options: Options = Options()


@dataclass(frozen=True)
class Done:
    """A finished block."""

    block: int
    num_items: int
    num_failed: int


class Worker:
    """Answers blocks, one after the other, with one model."""

    def __init__(self, job: Job) -> None:
        """Load the model."""
        self.job, self.plan = job, Plan(job.folder)
        self.model = job.load()

    def run(self, block: int) -> Done:
        """Answer a block and write its part, unless the part is there.

        Raises:
            ValueError: the part cannot be written.
        """
        place, key = self.plan.part(block), self.plan.key
        if self.plan.is_done(block):  # by the actor that has died since
            rows = read_rows(place, key, self.plan.size(block), ["error"])
        else:
            rows = self.answer(self.plan.read(block))
            write_rows(self.job.folder, place, rows, key)
        return Done(block, len(rows), sum(row.get("error") is not None for row in rows))

    def answer(self, items: Sequence[Item]) -> list[Row]:
        """Return a row per item; one whose medium cannot be read, or does not fit into memory, has an error."""
        rows = []
        with closing(self._open_ahead(items)) as batches:
            for batch, opened in batches:
                rows += self._answer_batch(batch, opened)
        return rows

    def _answer_batch(self, items: Sequence[Item], opened: Sequence[Media | ValueError]) -> list[Row]:
        requests = [
            Request(medium, SEGMENT_REQUEST.format(expression))
            for (_, expression), medium in zip(items, opened, strict=True)
            if isinstance(medium, Media)
        ]
        answered = iter(self.model.answer_batch(requests, self.job.options) if requests else ())
        results = [BatchResult(error=one) if isinstance(one, ValueError) else next(answered) for one in opened]
        return [to_row(item, result) for item, result in zip(items, results, strict=True)]

    def _open_ahead(self, items: Sequence[Item]) -> Generator[tuple[Sequence[Item], list[Media | ValueError]]]:
        """Yield each batch with its media; those of the next batch are being opened meanwhile."""
        size = self.job.batch
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        pool = ThreadPoolExecutor(READERS)
        try:
            opening: dict[str, Future[Media]] = {}
            for batch, following in pairwise([*batches, ()]):
                wanted = dict.fromkeys(name for name, _ in (*batch, *following))
                opening = {name: opening.get(name) or pool.submit(self.job.store.open, name) for name in wanted}
                yield batch, [_result(opening[name]) for name, _ in batch]
        finally:
            pool.shutdown(cancel_futures=True)


def _result(future: "Future[Media]") -> Media | ValueError:
    try:
        return future.result()
    except ValueError as error:
        return error


def answer_blocks(job: Job, blocks: Sequence[int]) -> Iterator[Done]:
    """Answer blocks in this process, in order."""
    if blocks:
        worker = Worker(job)
        for block in blocks:
            yield worker.run(block)
