"""Ask the items of benchmarks with a pool of actors on Ray.

Flow: benchmarks by name -> parts of their batches -> inference/on_ray.py -> runner.answer in each actor -> a file of
    answers per part in a common folder. A part that is tried twice asks only what is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sa2va.evaluation.benchmark import Benchmark
from sa2va.evaluation.catalog import rebuild
from sa2va.evaluation.report import Report
from sa2va.evaluation.runner import answer, begin, score_folder
from sa2va.evaluation.stamp import Run
from sa2va.evaluation.store import AnswerStore, Asked, Shard
from sa2va.inference.on_ray import Work, map_on_ray
from sa2va.inference.predictor import Predictor

PARTS_PER_WORKER = 8
SEVERAL_WORKERS = 8  # where their number follows from the GPUs of the cluster


@dataclass(frozen=True)
class Job:
    """What every actor needs.

    Attributes:
        load: makes the model.
        asked: benchmarks, with the run that the loaded model is.
        folder: of the answers, which every machine of the cluster reaches.
        batch_size: items that go through the model together; None takes the benchmark's.
        num_parts: number of parts.
    """

    load: Callable[[], Predictor]
    asked: Sequence[Asked]
    folder: Path
    batch_size: int | None
    num_parts: int


def build_work(job: Job) -> Work:
    """Make what an actor does with a part."""
    predictor = job.load()
    for one in job.asked:
        _require_same(predictor, one.run)
    benchmarks = [(rebuild(one.benchmark, one.selection), one.run) for one in job.asked]

    def ask(part: int) -> dict[str, int]:
        shard = Shard(part, job.num_parts)
        with AnswerStore(job.folder, shard) as store:
            for benchmark, run in benchmarks:
                answer(benchmark, predictor, store, run, shard=shard, batch_size=job.batch_size)
        return {"part": part}

    return ask


def _require_same(predictor: Predictor, run: Run) -> None:
    """Refuse a worker that would answer otherwise than the machine which describes the run."""
    here = predictor.device.type, str(predictor.dtype).removeprefix("torch.")
    if here != (run.device, run.dtype):
        raise ValueError(
            f"a worker has the model in {here[1]} on {here[0]}, this machine in {run.dtype} on {run.device}; "
            "give --device and --dtype"
        )


def evaluate_on_ray(
    load: Callable[[], Predictor],
    benchmarks: Sequence[Benchmark[Any]],
    run: Run,
    folder: Path,
    address: str,
    *,
    num_workers: int | None = None,
    num_gpus: float | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    seen: frozenset[int] = frozenset(),
) -> Report:
    """Ask benchmarks with a pool of actors, and report their figures.

    Args:
        load: makes the model of an actor.
        benchmarks: from the catalog.
        run: describes the model.
        folder: for answers and report; every machine of the cluster reaches it.
        address, num_workers, num_gpus: see `map_on_ray`.
        batch_size, progress, seen: see `runner.evaluate`.

    Raises:
        ValueError: as `runner.evaluate` and `map_on_ray`.
    """
    asked = begin(folder, benchmarks, run)
    job = Job(load, asked, folder.resolve(), batch_size, PARTS_PER_WORKER * (num_workers or SEVERAL_WORKERS))
    parts = map_on_ray(
        partial(build_work, job), range(job.num_parts), address, num_workers=num_workers, num_gpus=num_gpus
    )
    for _ in tqdm(parts, total=job.num_parts, desc="Ray", unit="part", disable=not progress):
        pass
    return score_folder(folder, own=benchmarks, seen=seen)
