"""Test that benchmarks run end to end at tiny sizes; their figures are no tests."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run_benchmark(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_peers_agree(tmp_path: Path) -> None:
    """The loop over stock modules gives our masks in float32; a second run measures nothing again."""
    arguments = ("--size", "tiny", "--dtype", "float32", "--row", "clip", "second", "--work", str(tmp_path))
    first = run_benchmark("peers.py", *arguments)
    assert first.count("IoU of the masks: 1 (bar: at least 0.999) holds") == 2
    assert run_benchmark("peers.py", *arguments) == first
