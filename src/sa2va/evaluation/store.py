"""Keep the answers of one run in a folder: one file per shard, merged by key.

Flow: runner.py -> AnswerStore.append -> answers-1-of-1.jsonl; runner.py, recorded.py <- AnswerStore.answers.
    Every file begins a benchmark with a line about it, so that the folder alone tells what was asked of whom.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Selection
from sa2va.evaluation.stamp import Run
from sa2va.journal import Journal, content_key

PATTERN = "answers-*.jsonl"


@dataclass(frozen=True)
class Shard:
    """Part of the items of every benchmark, for one of several processes.

    Attributes:
        index: 0 to count - 1.
        count: number of processes.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"shard {self.index + 1}/{self.count}: expected I/N with I from 1 to N, as in 1/4")

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Parse "I/N"; None takes the rank of a process that torchrun started, else the whole.

        Raises:
            ValueError: it has another form.
        """
        if text is None:
            return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise ValueError(f"shard {text!r}: expected I/N with I from 1 to N, as in 1/4")
        return cls(int(index) - 1, int(count))

    @property
    def file(self) -> str:
        return f"answers-{self.index + 1}-of-{self.count}.jsonl"

    def has(self, number: int) -> bool:
        """Return whether a batch, given by its number, belongs to this shard."""
        return number % self.count == self.index


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A benchmark that was asked of a model, as a folder of answers tells it.

    Attributes:
        run: the model.
        benchmark: name.
        selection: the items.
        turn: how many were begun in the folder before.
    """

    run: Run
    benchmark: str
    selection: Selection
    turn: int = 0

    def to_record(self) -> dict[str, Any]:
        """Return JSON values."""
        values = asdict(self.selection)
        root = None if self.selection.root is None else str(self.selection.root)
        selection = values | {"root": root}
        return {
            "run": self.run.to_dict(), "benchmark": self.benchmark, "selection": selection, "turn": self.turn,
        }  # fmt: skip

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read JSON values of `to_record`.

        Raises:
            KeyError, TypeError: they are not complete.
        """
        values = dict(record["selection"])
        root = values.pop("root")
        selection = Selection(root=None if root is None else Path(root), **values)
        return cls(
            run=Run(**record["run"]), benchmark=record["benchmark"], selection=selection, turn=record["turn"]
        )  # fmt: skip


class AnswerStore:
    """Answers by key, in the files of a folder or in memory.

    Only the offsets of the answers are held in memory if there is a folder.
    """

    def __init__(self, folder: Path | None = None, shard: Shard | None = None) -> None:
        """Open the answers of all shards; the first append creates the file of `shard`.

        Args:
            folder: None keeps the answers in memory.
            shard: that this process writes; None = the whole.

        Raises:
            ValueError: a file is of another kind.
        """
        self.folder = folder
        self._memory: dict[str, Any] = {}
        self._journals: list[Journal] = []
        self._own: Journal | None = None
        if folder is not None:
            own = folder / (shard or Shard()).file
            self._own = Journal(own)
            self._journals = [self._own, *(Journal(path) for path in list_answers(folder) if path != own)]

    def done(self, key: str) -> bool:
        """Return whether there are answers under a key."""
        return key in self._memory or any(journal.done(key) for journal in self._journals)

    def get(self, key: str) -> Any:
        """Return what is stored under a key, None if there is nothing."""
        if key in self._memory:
            return self._memory[key]
        return next((journal.get(key) for journal in self._journals if journal.done(key)), None)

    def append(self, records: Sequence[tuple[str, Any]]) -> None:
        """Write records (key, JSON values) at once; a killed process loses all of them or none."""
        if self._own is None:
            self._memory.update(records)
        else:
            self._own.append_all(records)

    def begin(self, asked: Asked) -> None:
        """Write which benchmark is asked of which model.

        Raises:
            ValueError: the folder has answers of another model, with other settings or about other data.
        """
        turns = self._turns()
        for other in turns:
            if other.run != asked.run:
                old, new = other.run.to_dict(), asked.run.to_dict()
                changed = "; ".join(f"{name} {old[name]}, now {new[name]}" for name in new if old[name] != new[name])
                raise ValueError(f"{self.folder}: holds answers of another run ({changed}); choose another folder")
            if other.benchmark == asked.benchmark and _is_other_data(other.selection.root, asked.selection.root):
                raise ValueError(
                    f"{self.folder}: holds answers of {asked.benchmark} about {other.selection.root}, now "
                    f"{asked.selection.root}; choose another folder"
                )
        last = {other.benchmark: other.selection for other in turns}
        if last.get(asked.benchmark) != asked.selection:
            record = replace(asked, turn=max((other.turn for other in turns), default=-1) + 1).to_record()
            self.append([(content_key(record), record)])

    def asked(self) -> list[Asked]:
        """Return every benchmark that was asked, by its last selection, in order of their first one.

        Raises:
            ValueError: there is none, or a line is not of this kind.
        """
        found = list({asked.benchmark: asked for asked in self._turns()}.values())
        if not found:
            raise ValueError(f"{self.folder}: holds no answers of sa2va eval; give the folder of its -o")
        return found

    def _turns(self) -> list[Asked]:
        """Return what was asked, in order."""
        found: list[Asked] = []
        for journal in self._journals:
            for _, record in journal.items():
                if isinstance(record, dict) and "run" in record:
                    try:
                        found.append(Asked.from_record(record))
                    except (KeyError, TypeError) as error:
                        raise ValueError(
                            f"{journal.path}: was written by another version of sa2va ({error}); choose another folder"
                        ) from error
        return sorted(found, key=lambda asked: asked.turn)

    def answers(self, benchmark: Benchmark[Any], run: Run, item: str) -> "StoredAnswers | None":
        """Return what was asked and answered for an item; None if it was not asked yet.

        Raises:
            ValueError: the answers are damaged.
        """
        record = self.get(key := run.key(benchmark, item))
        try:
            return None if record is None else StoredAnswers.from_record(record)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.folder}: the answers to {benchmark.name}, item {item}, are damaged ({error}); delete the line "
                f"with key {key}, and evaluate again"
            ) from error

    def close(self) -> None:
        """Close the file; a later append opens it again."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class StoredAnswers:
    """The requests of an item and their answers; no prompts for an item that was played."""

    benchmark: str
    item: str
    prompts: tuple[str, ...]
    answers: tuple[Answer, ...]

    def to_record(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "benchmark": self.benchmark,
            "item": self.item,
            "prompts": list(self.prompts),
            "answers": [answer.to_record() for answer in self.answers],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read JSON values of `to_record`."""
        answers = tuple(Answer.from_record(one) for one in record["answers"])
        return cls(record["benchmark"], record["item"], tuple(record["prompts"]), answers)


def _is_other_data(before: Path | None, now: Path | None) -> bool:
    """Return whether two roots differ; data that is no longer where it was has been moved."""
    return before is not None and now is not None and before.exists() and before.resolve() != now.resolve()


def list_answers(folder: Path) -> list[Path]:
    """List the files of answers in a folder."""
    return sorted(folder.glob(PATTERN))
