"""Answer the blocks of a bulk run with a pool of actors on Ray; a block that is tried twice is written once.

Flow: blocks -> inference/on_ray.py -> Worker.run in each actor -> finished blocks, in any order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial

from sa2va.bulk.worker import Done, Job, Worker
from sa2va.inference.on_ray import Work, map_on_ray


def build_work(job: Job) -> Work:
    """Make what an actor does with a block."""
    worker = Worker(job)
    return lambda block: asdict(worker.run(block))


def answer_on_ray(
    job: Job, blocks: Sequence[int], address: str, *, num_workers: int | None = None, num_gpus: float | None = None
) -> Iterator[Done]:
    """Answer blocks with a pool of actors; arguments and errors are those of `map_on_ray`.

    Args:
        job: its folder, store and model must be reachable from every machine of the cluster.
        blocks: numbers of the blocks.
        address, num_workers, num_gpus: see `map_on_ray`.
    """
    for row in map_on_ray(partial(build_work, job), blocks, address, num_workers=num_workers, num_gpus=num_gpus):
        yield Done(**row)
