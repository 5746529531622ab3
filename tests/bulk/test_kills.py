"""Test that processes killed at any moment leave a run that ends with the bytes of one that was never killed."""

import json
from pathlib import Path

import pytest
from support.own_process import contents
from support.own_process import run as run_process

from sa2va.files.scratch import UNLOCKED

pytest.importorskip("pyarrow")

CODE = """
import random, threading, time
import filelock, pyarrow.fs, pyarrow.parquet  # once, not in each process
from support.bulk_files import *

media, texts = write_media(place / "media"), write_expressions(place / "texts.txt")

def kill_later(number):
    seconds = random.Random(number).uniform(0, 0.2)
    kill = lambda: (time.sleep(seconds), os.kill(os.getpid(), 9))
    threading.Thread(target=kill if number < 20 else int, daemon=True).start()

load = lambda: SlowToy(0.06, place / "processes")  # killed before it can answer everything
ways = {
    "whole": (lambda number: None, {}),
    "at each change": (lambda number: die_at(number + 1, place / "at each change"), {}),
    "at random": (kill_later, {"load": load}),
}
for name, (prepare, how) in ways.items():
    print(run_until_done(prepare, lambda: run(media, texts, place / name, **how)))
"""


def test_killed_runs_end_with_the_same_bytes(tmp_path: Path) -> None:
    """Processes die at the first, the second, ... change of the folder, or after a random time."""
    done = run_process(CODE, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    none, at_changes, at_random = map(int, done.stdout.split())
    assert none == 0 and at_changes >= 15 and at_random >= 2
    expected = contents(tmp_path / "whole")
    for way in ("at each change", "at random"):
        # Killed before it could be locked, a scratch folder stays.
        found = {name: content for name, content in contents(tmp_path / way).items() if UNLOCKED not in name}
        assert found == expected
    assert len(json.loads(expected["annotations.json"])["annotations"]) == 4
