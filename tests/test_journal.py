"""Check journal.py: an interruption at any moment loses no appended record."""

import errno
import fcntl
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.journal import Journal, content_key

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def filled(path: Path) -> dict[str, Any]:
    records = {"a": {"iou": 0.5}, "b": ["zwei", "ü\n\u2028"], "c": None}
    with Journal(path) as journal:
        for key, record in records.items():
            assert not journal.done(key)
            journal.append(key, record)
            assert journal.done(key)
    return records


def test_a_second_run_finds_the_first(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.jsonl"
    records = filled(path)
    journal = Journal(path)
    assert len(journal) == 3 and journal.done("a") and not journal.done("d")
    assert {key: journal.get(key) for key in records} == records
    assert list(journal.items()) == list(records.items())
    assert journal.get("d") is None
    assert len(path.read_text(encoding="utf-8").rstrip("\n").split("\n")) == 3


def test_opening_alone_makes_no_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.jsonl")
    assert len(journal) == 0 and not journal.done("a") and list(journal.items()) == []
    assert not list(tmp_path.iterdir())


def test_every_cut_keeps_the_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    records = filled(path)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        with Journal(path) as journal:
            assert [key for key, _ in journal.items()] == list(records)[:whole]
            assert path.stat().st_size == length  # reading does not write
            journal.append("new", length)
        again = Journal(path)
        assert [key for key, _ in again.items()] == [*list(records)[:whole], "new"]
        assert again.get("new") == length


def test_a_later_record_wins(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    filled(path)
    with Journal(path) as journal:
        journal.append("a", 2)
        assert journal.get("a") == 2 and len(journal) == 3
    assert dict(Journal(path).items())["a"] == 2
    assert len(path.read_bytes().splitlines()) == 4


@pytest.mark.parametrize("line", ["hello", "[1]", '{"key": 1, "record": 2}', '{"key": "a"}', "", '{"key": "a", "rec'])
def test_another_file_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run.jsonl"
    filled(path)
    path.write_text(path.read_text() + line + "\n" + json.dumps({"key": "z", "record": 0}) + "\n")
    with pytest.raises(ValueError, match=r"run\.jsonl:4: expected") as caught:
        Journal(path)
    assert "\n" not in str(caught.value)


def test_two_writers_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path) as first, Journal(path) as second:
        for number in range(20):
            first.append(f"first{number}", number)
            second.append(f"second{number}", "x" * number)
        assert first.get("first7") == 7 and second.get("second7") == "x" * 7
        assert not first.done("second0")
    assert len(Journal(path)) == 40


def test_threads_that_share_a_journal_read_their_own_records(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.jsonl")
    numbers = range(2000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: journal.append(f"{number:032x}", number), numbers))
    assert [journal.get(f"{number:032x}") for number in numbers] == list(numbers)


def test_a_rest_of_a_killed_process_is_removed_by_an_open_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path) as journal:
        journal.append("a", 1)
        with path.open("ab") as killed:
            killed.write(b'{"key": "lost", "record": "' + b"x" * 10_000)
        journal.append("b", 2)
        assert journal.get("b") == 2
    assert dict(Journal(path).items()) == {"a": 1, "b": 2}


def test_a_line_that_another_process_is_writing_is_left_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(path)], stdout=subprocess.PIPE, text=True) as slow:
        assert slow.stdout is not None and slow.stdout.readline() == "half\n"
        with Journal(path) as journal:
            journal.append("mine", 2)
            assert journal.get("mine") == 2
    assert slow.returncode == 0
    assert list(Journal(path).items()) == [("slow", 1), ("mine", 2)]


SLOW_WRITER = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
os.write(file, b'{"key": "slow", ')
print("half", flush=True)
time.sleep(0.5)
os.write(file, b'"record": 1}\\n')
"""

WRITER = """
import os, sys
from sa2va.journal import Journal
name, path = sys.argv[1:]
journal = Journal(path)
for number in range(1_000_000):
    key, size = f"{name}/{number}", 1 + (7919 * number) % 400_000
    journal.append(key, [key, "x" * size])
    journal.close()  # what the first append after opening does is part of the test
    os.write(1, f"{key} {size}\\n".encode())
"""


def test_processes_that_append_and_are_killed_lose_and_harm_nothing(tmp_path: Path) -> None:
    path, pause = tmp_path / "run.jsonl", random.Random(0)
    writers: list[subprocess.Popen] = []

    def start() -> None:
        name = f"w{len(writers)}"
        with (tmp_path / f"{name}.txt").open("w") as said:
            writers.append(subprocess.Popen([sys.executable, "-c", WRITER, name, str(path)], stdout=said))

    def size() -> int:
        return path.stat().st_size if path.exists() else 0

    for _ in range(3):
        start()
    for victim in range(6):
        before = size()
        while size() < before + 1_000_000:
            time.sleep(0.005)
            assert writers[-1].poll() is None
        time.sleep(pause.random() / 20)
        writers[victim].kill()
        start()
    for writer in writers:
        writer.kill()
        writer.wait()
    records = dict(Journal(path).items())
    assert all(record == [key, "x" * len(record[1])] for key, record in records.items())
    said = [line.split() for file in tmp_path.glob("*.txt") for line in file.read_text().splitlines()]
    assert len(said) > 30 and all(len(records[key][1]) == int(length) for key, length in said)
    assert len(records) <= len(said) + len(writers)  # a kill may come between a record and its acknowledgement


def test_a_file_system_without_locks_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.jsonl"
    filled(path)
    content = path.read_bytes()

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        Journal(path) as journal,
        pytest.raises(ValueError, match=r"run\.jsonl: .*No locks available.*local disk") as said,
    ):
        journal.append("d", 1)
    assert "\n" not in str(said.value) and path.read_bytes() == content


@pytest.mark.parametrize("content", ["notes of mine", '["key"', "\n", '{"key": 1'])
def test_a_file_of_the_user_is_not_taken_for_the_rest_of_a_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"journal\.jsonl:1: expected"):
        Journal(path)
    assert path.read_text() == content


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="is not a file"):
            Journal(place)


def test_numpy_values_are_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.jsonl")
    journal.append("a", {"iou": np.float32(0.5), "list": np.arange(3), "path": Path("x/y")})
    assert journal.get("a") == {"iou": 0.5, "list": [0, 1, 2], "path": str(Path("x/y"))}
    with pytest.raises(TypeError, match="function"):
        journal.append("b", test_numpy_values_are_written)
    assert not journal.done("b") and len(Journal(journal.path)) == 1
    journal.close()


@given(record=JSON, key=st.text(max_size=5))
def test_any_json_comes_back(tmp_path_factory: pytest.TempPathFactory, record: Any, key: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.unlink(missing_ok=True)
    with Journal(path) as journal:
        journal.append(key, record)
    assert Journal(path).get(key) == record


@dataclass(frozen=True)
class Choice:
    name: str
    seed: int = 0


@dataclass(frozen=True)
class Other:
    name: str
    seed: int = 0


def test_keys_are_equal_for_equal_content() -> None:
    assert content_key({"a": 1, "b": [1, 2]}) == content_key({"b": (1, 2), "a": 1})
    assert content_key({3, 1, 2}) == content_key({2, 3, 1})
    assert content_key(Choice("x")) == content_key(Choice("x", 0))
    assert content_key(np.arange(4)) == content_key(np.arange(8)[::2] // 2)
    assert content_key(np.int64(3)) == content_key(3)
    assert content_key(Path("a/b")) == content_key("a/b")


def test_keys_differ_for_different_content() -> None:
    contents = [
        1, 1.5, "1", None, [1], [[1]], {"a": 1}, {"a": 2}, Choice("x"), Choice("x", 1), Other("x"), b"x", b"y",
        np.arange(4), np.arange(4).reshape(2, 2), np.arange(4, dtype=np.int32), np.arange(4)[::-1],
    ]  # fmt: skip
    assert len({content_key(content) for content in contents}) == len(contents)
    with pytest.raises(TypeError, match="function"):
        content_key(filled)


def test_keys_do_not_depend_on_the_process() -> None:
    code = "from sa2va.journal import content_key; print(content_key({'b': {'x', 'y'}, 'a': 0.1}))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"},
    )
    assert result.stdout.strip() == content_key({"a": 0.1, "b": {"y", "x"}})
    assert len(content_key(0)) == 32
