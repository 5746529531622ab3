"""Record how a model was trained: command, commit, seed, steps and hours of each stage.

Flow: training/run.py, after the model is saved -> write_record -> `training.json` beside the weights. The stages are
    read from their final states, so that a resumed run counts the hours of all its parts.
"""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import sa2va
from sa2va.files.atomic import write_text
from sa2va.training.config import RunConfig
from sa2va.training.state import FINAL, read_state

RECORD_FILE = "training.json"
_GIT_TIMEOUT = 10  # seconds


@cache
def find_commit() -> str | None:
    """Return the commit at the first call, with "-dirty" if a file of the package differs; None outside git."""
    package = Path(sa2va.__file__).parent
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # installed within a repository of somebody else
    commit, changes = _git(package, "rev-parse", "HEAD"), _git(package, "status", "--porcelain", "--", ".")
    return commit and commit + "-dirty" * bool(changes)


def write_record(config: RunConfig, folder: Path, command: str) -> None:
    """Write the record of a finished run into the folder of its weights.

    Args:
        config: configuration of the run.
        folder: folder of the run, with the final states of its stages.
        command: what was typed; empty = unknown.

    Raises:
        ValueError: a state is damaged, or the file cannot be written.
    """
    stages = [_describe(folder / stage.name / FINAL, stage.name) for stage in config.stages]
    record = {
        "command": command or None,
        "version": sa2va.__version__,
        "commit": find_commit(),
        "start": config.start or None,
        "seed": config.seed,
        "hours": round(sum(stage["hours"] for stage in stages), 3),
        "stages": stages,
    }
    result = folder / config.results[0]  # a model folder, or the first file of an adapter
    write_text((result if result.is_dir() else folder) / RECORD_FILE, json.dumps(record, indent=1) + "\n")


def _describe(final: Path, name: str) -> dict[str, Any]:
    state = read_state(final)
    settings, hours = state.record["config"], state.record["train_s"] / 3600
    return {
        "name": name,
        "steps": state.step,
        "samples_per_step": settings["batch_size"],
        "lr": settings["lr"],
        "commit": state.record.get("commit"),  # a stage may have ended before commits were recorded
        "hours": round(hours, 3),
    }


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=_GIT_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
