"""Evaluate a model in two passes: ask every item and keep the answers, then score the answers and report.

Flow: Benchmark -> answer (load, ask in batches, AnswerStore) -> score (answers, ground truth -> Record) -> figures
    -> report.Report. A stopped run resumes: answers are kept per item, under a key of everything that decides them
    (stamp.py). A batch is always made of the same items, whoever asks it, so no score depends on kills or shards.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

from tqdm import tqdm

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Answers, Benchmark, Record
from sa2va.evaluation.catalog import rebuild
from sa2va.evaluation.command import list_commands
from sa2va.evaluation.html import Detail, render_page
from sa2va.evaluation.judge import Unjudged
from sa2va.evaluation.report import FILES, Report, Section, describe_environment
from sa2va.evaluation.stamp import Run
from sa2va.evaluation.store import AnswerStore, Asked, Shard, StoredAnswers, list_answers
from sa2va.evaluation.submission import FOLDER, pack
from sa2va.files.atomic import write_text

RECORDS, PAGE = "records.jsonl", "report.html"


class Unanswered(ValueError):
    """Some items of a benchmark have no answers yet."""


def answer(
    benchmark: Benchmark[Any],
    predictor: Answers,
    store: AnswerStore,
    run: Run,
    *,
    shard: Shard | None = None,
    batch_size: int | None = None,
    progress: bool = False,
) -> None:
    """Ask every item that has no answers yet.

    Args:
        benchmark: items and requests.
        predictor: model under test.
        store: takes the answers, a batch at once.
        run: description of the model; part of the keys.
        shard: the batches of this process; None = all.
        batch_size: items that go through the model together; None takes the benchmark's.
        progress: show a bar on standard error, with the mean score so far and the time left.
    """
    shard = shard or Shard()
    blocks = list(_chunks(range(len(benchmark)), batch_size or benchmark.batch_size))
    # Each benchmark begins with another shard, or the first one would have the only batch of all small benchmarks.
    mine = [block for number, block in enumerate(blocks, crc32(benchmark.name.encode())) if shard.has(number)]
    keys = {index: run.key(benchmark, benchmark.ids[index]) for block in mine for index in block}
    total, done = len(keys), sum(map(store.done, keys.values()))
    scores: list[float] = []
    with tqdm(total=total, initial=done, desc=benchmark.title, disable=not progress, unit="item") as bar:
        for block in mine:
            missing = [index for index in block if not store.done(keys[index])]
            if not missing:
                continue
            # The whole batch again: another one could round differently.
            stored = dict(zip(block, ask_items(benchmark, predictor, block), strict=True))
            store.append([(keys[index], stored[index].to_record()) for index in missing])
            if progress and benchmark.prepare is None:  # scores that take time are computed at the end
                scores += _scores_of(benchmark, stored)
                bar.set_postfix_str(f"score {sum(scores) / len(scores):.3f}" if scores else "", refresh=False)
            bar.update(len(missing))


def _scores_of(benchmark: Benchmark[Any], stored: Mapping[int, StoredAnswers]) -> list[float]:
    """Score a batch for the bar; a benchmark whose items have no score of their own gives nothing."""
    records = [benchmark.score(benchmark.load(index), one.answers) for index, one in stored.items()]
    return [float(record["score"]) for record in records if "score" in record]


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def ask_items(benchmark: Benchmark[Any], predictor: Answers, indices: Sequence[int]) -> list[StoredAnswers]:
    """Load items and answer all their requests in one batch; items that are played, one after the other."""
    items = [benchmark.load(index) for index in indices]
    ids = [benchmark.ids[index] for index in indices]
    if benchmark.play is not None:
        return [
            StoredAnswers(benchmark.name, key, (), tuple(benchmark.play(predictor, item)))
            for key, item in zip(ids, items, strict=True)
        ]
    assert benchmark.ask is not None
    asked = [benchmark.ask(item) for item in items]
    requests = [request for several in asked for request in several]
    begin = time.perf_counter()
    ask = predictor.probe_batch if benchmark.forced else predictor.predict_batch
    predictions = ask(requests, benchmark.options)
    seconds = (time.perf_counter() - begin) / max(1, len(requests))
    answers = iter(Answer.of(prediction, seconds) for prediction in predictions)
    return [
        StoredAnswers(benchmark.name, key, tuple(one.prompt for one in several), tuple(next(answers) for _ in several))
        for key, several in zip(ids, asked, strict=True)
    ]


def score(benchmark: Benchmark[Any], store: AnswerStore, run: Run) -> list[Record]:
    """Score the answers of every item, in order; a pure function of answers and ground truth.

    Raises:
        Unanswered: an item has no answers.
        ValueError: other questions were asked than the benchmark asks now.
    """
    records = []
    missing = [key for key in benchmark.ids if not store.done(run.key(benchmark, key))]
    if missing:
        raise Unanswered(
            f"{benchmark.name}: {len(benchmark) - len(missing)} of {len(benchmark)} items are answered; run the same "
            "command, or the other shards, to the end"
        )
    if benchmark.prepare is not None:
        stored_answers = (store.answers(benchmark, run, key) for key in benchmark.ids)
        pairs = enumerate(one.answers for one in stored_answers if one is not None)
        benchmark.prepare((benchmark.load(index), answers) for index, answers in pairs)
    for index, key in enumerate(benchmark.ids):
        item, stored = benchmark.load(index), store.answers(benchmark, run, key)
        assert stored is not None
        _require_same_questions(benchmark, item, stored)
        try:
            records.append(to_json(benchmark.score(item, stored.answers)))
        except ValueError as error:  # of a damaged mask
            raise ValueError(f"{benchmark.name}, item {key}: {error}") from error
    return records


def _require_same_questions(benchmark: Benchmark[Any], item: Any, stored: StoredAnswers) -> None:
    asked = [] if benchmark.ask is None else [request.prompt for request in benchmark.ask(item)]
    if asked != list(stored.prompts):
        raise ValueError(
            f"{benchmark.name}, item {stored.item}: was asked {list(stored.prompts)!r:.80} and would now be asked "
            f"{asked!r:.80}; evaluate again into another folder"
        )


def to_json(record: Record) -> Record:
    """Pass a record through JSON, so that new and stored ones are equal."""
    return json.loads(json.dumps(record))


def run(
    benchmark: Benchmark[Any], predictor: Answers, *, batch_size: int | None = None, progress: bool = False
) -> list[Record]:
    """Ask and score every item in memory: one record per item, in order."""
    with AnswerStore() as store:
        answer(benchmark, predictor, store, NO_RUN, batch_size=batch_size, progress=progress)
        return score(benchmark, store, NO_RUN)


# Of answers that are not kept.
NO_RUN = Run(model="", model_hash="", dtype="", device="", libraries={}, code_hash="")


def require_own_folder(folder: Path) -> None:
    """Refuse a folder with files of the names that an evaluation writes and that are not its own, as a model card's.

    Raises:
        ValueError: there is one of them without answers, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; expected a folder, new or of an evaluation")
    for name in (*FILES, PAGE, RECORDS, FOLDER):
        if (folder / name).exists() and not list_answers(folder):
            raise ValueError(
                f"{folder / name}: was not written by an evaluation into this folder, which has no answers, "
                "and would be replaced; choose another folder"
            )


def begin(folder: Path, benchmarks: Sequence[Benchmark[Any]], run: Run, shard: Shard | None = None) -> list[Asked]:
    """Write into a folder which benchmarks are asked of which model, and return that.

    Raises:
        ValueError: the folder cannot be written, holds answers of another run, or its report was not written by an
            evaluation.
    """
    folder.mkdir(parents=True, exist_ok=True)  # fail before any work if the folder cannot be written
    require_own_folder(folder)
    chosen = [(one.name, one.selection) for one in benchmarks if one.selection is not None]
    asked = [Asked(run=run, benchmark=name, selection=selection) for name, selection in chosen]
    with AnswerStore(folder, shard) as store:
        for one in asked:
            store.begin(one)
    return asked


def evaluate(
    predictor: Answers,
    benchmarks: Sequence[Benchmark[Any]],
    run: Run,
    *,
    folder: Path | None = None,
    shard: Shard | None = None,
    batch_size: int | None = None,
    progress: bool = False,
    seen: frozenset[int] = frozenset(),
) -> Report:
    """Ask benchmarks and report their figures.

    Args:
        predictor: model under test.
        benchmarks: from the catalog.
        run: describes the predictor.
        folder: for answers and report; None writes nothing. The same folder again resumes, and the report has all
            benchmarks that were asked there.
        shard: the part of the items that this process asks.
        batch_size, progress: see `answer`.
        seen: COCO pictures that the model was trained on; figures without them are reported as well.

    Raises:
        ValueError: the folder cannot be written, holds answers of another run, or its report was not written by an
            evaluation, such as a model card's.
    """
    if folder is not None:
        begin(folder, benchmarks, run, shard)
    with AnswerStore(folder, shard) as store:
        for benchmark in benchmarks:
            answer(benchmark, predictor, store, run, shard=shard, batch_size=batch_size, progress=progress)
        if folder is None:
            return _report(benchmarks, store, run, seen=seen)
    report = score_folder(folder, own=benchmarks, seen=seen)
    if shard is not None and shard.count > 1 and report.unfinished:
        # Processes that end together write their reports in any order, so an incomplete one looks again.
        with AnswerStore(folder) as store:
            is_answered = all(store.done(run.key(one, item)) for one in benchmarks for item in one.ids)
        if is_answered:
            return score_folder(folder, own=benchmarks, seen=seen)
    return report


def score_folder(
    folder: Path,
    *,
    root: Path | None = None,
    own: Sequence[Benchmark[Any]] = (),
    seen: frozenset[int] = frozenset(),
) -> Report:
    """Score all answers of a folder and write its report; needs no model.

    Args:
        folder: of `evaluate`.
        root: root of the data; None = where it was.
        own: benchmarks that need not be built again.
        seen: see `evaluate`.

    Raises:
        ValueError: there are no answers, or the data is not there.
    """
    with AnswerStore(folder) as store:
        asked = store.asked()
        built = {one.name: one for one in own if one.selection is not None}
        benchmarks = [
            built[one.benchmark]
            if one.benchmark in built and built[one.benchmark].selection == one.selection
            else rebuild(one.benchmark, one.selection, root)
            for one in asked
        ]
        report = _report(benchmarks, store, asked[0].run, folder, list_commands(asked), seen)
    report.save(folder)
    return report


def _report(
    benchmarks: Sequence[Benchmark[Any]],
    store: AnswerStore,
    run: Run,
    folder: Path | None = None,
    commands: tuple[str, ...] = (),
    seen: frozenset[int] = frozenset(),
) -> Report:
    sections, unfinished, lines, details = [], [], [], []
    for benchmark in benchmarks:
        try:
            records = score(benchmark, store, run)
        except Unanswered as error:
            unfinished.append(str(error))
            continue
        except Unjudged as error:
            unfinished.append(f"{benchmark.name}: {error}")
            continue
        lines += [
            json.dumps({"benchmark": benchmark.name, "item": key, "record": record}) + "\n"
            for key, record in zip(benchmark.ids, records, strict=True)
        ]
        if folder is not None and benchmark.submit is not None:
            pack(benchmark, store, run, folder)
        sections.append(Section.of(benchmark, records, seen))
        details.append(Detail(benchmark, records, partial(_answers_of, benchmark, store, run)))
    report = Report(
        sections=tuple(sections), unfinished=tuple(unfinished), run=run, environment=describe_environment(),
        commands=commands,
    )  # fmt: skip
    if folder is not None:
        write_text(folder / RECORDS, "".join(lines))
        write_text(folder / PAGE, render_page(report, details))
    return report


def _answers_of(benchmark: Benchmark[Any], store: AnswerStore, run: Run, index: int) -> tuple[Answer, ...]:
    stored = store.answers(benchmark, run, benchmark.ids[index])
    return () if stored is None else stored.answers
