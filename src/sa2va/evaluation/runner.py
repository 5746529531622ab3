"""Evaluate a model on every item of every benchmark, store each score in a journal, and report.

Flow: Benchmark -> run (load, ask in batches, score, journal) -> records -> figures -> report.Report.
    A stopped run resumes: the journal holds one record per item, under a key of everything that decides the record
    (stamp.py). Several processes may share a folder, each with its own benchmarks. A further run of all of
    them then finds every score in the journal.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from tqdm import tqdm

from sa2va.evaluation.benchmark import Answers, Benchmark, LiveBenchmark, Record
from sa2va.evaluation.report import FILES, Report, Section, describe_environment
from sa2va.evaluation.stamp import Run
from sa2va.inference.embedded import drawn_scenes
from sa2va.journal import Journal

JOURNAL = "journal.jsonl"


def run(
    benchmark: Benchmark | LiveBenchmark,
    predictor: Answers,
    *,
    journal: Journal | None = None,
    key: Callable[[int], str] = str,
    batch_size: int | None = None,
    progress: bool = False,
) -> list[Record]:
    """Score every item of a benchmark.

    Args:
        benchmark: items, requests and scores.
        predictor: model under test.
        journal: stores records and returns those of earlier runs; None stores nothing.
        key: item number -> its key in the journal.
        batch_size: items that go through the model together; None takes the benchmark's. Scores do not depend on it.
        progress: show a bar on standard error.

    Returns:
        One record per item, in order.
    """
    records: dict[int, Record] = {}
    if journal is not None:
        records = {i: journal.get(key(i)) for i in range(benchmark.num_items) if journal.done(key(i))}
    todo = [index for index in range(benchmark.num_items) if index not in records]
    bar = tqdm(total=benchmark.num_items, initial=len(records), desc=benchmark.title, disable=not progress, unit="item")
    with bar:
        for batch in _chunks(todo, batch_size or benchmark.batch_size):
            for index, record in zip(batch, score_items(benchmark, predictor, batch), strict=True):
                records[index] = record
                if journal is not None:
                    journal.append(key(index), record)
            bar.update(len(batch))
    return [records[index] for index in range(benchmark.num_items)]


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def score_items(benchmark: Benchmark | LiveBenchmark, predictor: Answers, indices: Sequence[int]) -> list[Record]:
    """Load items, answer all their requests in one batch, and score each; live benchmarks are streamed."""
    if isinstance(benchmark, LiveBenchmark):
        return [_as_json(benchmark.play(predictor, index)) for index in indices]
    samples = [benchmark.load(index) for index in indices]
    asked = [benchmark.ask(sample) for sample in samples]
    requests = [request for several in asked for request in several]
    answer = predictor.probe_batch if benchmark.forced else predictor.predict_batch
    predictions = iter(answer(requests, benchmark.options))
    records = []
    for sample, several in zip(samples, asked, strict=True):
        record = benchmark.score(sample, [next(predictions) for _ in several])
        records.append(_as_json(record))
    return records


def _as_json(record: Record) -> Record:
    """Pass a record through JSON, so that new and stored ones are equal."""
    return json.loads(json.dumps(record))


def require_own_report(folder: Path) -> None:
    """Refuse a folder whose report was not written by an evaluation, such as a model card's.

    Raises:
        ValueError: there is a report without a journal.
    """
    for name in FILES:
        if (folder / name).exists() and not (folder / JOURNAL).exists():
            raise ValueError(
                f"{folder / name}: was not written by an evaluation into this folder, which has no {JOURNAL}, "
                "and would be replaced; choose another folder"
            )


@drawn_scenes()
def evaluate(
    predictor: Answers,
    benchmarks: Sequence[Benchmark | LiveBenchmark],
    stamp: Run,
    *,
    folder: Path | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> Report:
    """Run benchmarks and report their figures.

    Args:
        predictor: model under test.
        benchmarks: from the catalog, built as `stamp` says.
        stamp: describes predictor and benchmarks; goes into the report and into the keys of the journal.
        folder: for journal and report; None writes nothing. The same folder again resumes.
        batch_size: see `run`.
        progress: show bars on standard error.

    Raises:
        ValueError: the folder cannot be written, its journal.jsonl is of another kind, or its report was not
            written by an evaluation, such as a model card's.
    """
    begin = time.perf_counter()
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)  # fail before any work if the folder cannot be written
        require_own_report(folder)
    sections = []
    with Journal(folder / JOURNAL) if folder is not None else nullcontext() as journal:
        for benchmark in benchmarks:
            start = time.perf_counter()
            key = partial(stamp.key, benchmark)
            records = run(benchmark, predictor, journal=journal, key=key, batch_size=batch_size, progress=progress)
            figures = tuple(benchmark.summarize(records))
            seconds = time.perf_counter() - start
            sections.append(Section(name=benchmark.name, title=benchmark.title, figures=figures, seconds=seconds))
    environment = describe_environment() | {"seconds": round(time.perf_counter() - begin, 1)}
    report = Report(sections=tuple(sections), stamp=stamp, environment=environment)
    if folder is not None:
        report.save(folder)
    return report
