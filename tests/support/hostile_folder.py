"""Spoil a copy of a model folder, and check that a command refuses it at once and without memory."""

import json
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_model import build_model

from sa2va.apps import cli
from sa2va.checkpoints.folder import save_checkpoint

SECONDS, KIBIBYTES = 10.0, 200_000  # generous: a machine that tests may do much else


@pytest.fixture(scope="module")
def native_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    model, processor = build_model()
    save_checkpoint(model, processor.tokenizer, folder, torch.float32)
    return folder


def copy_changed(source: Path, target: Path, file: str, path: str, value: Any) -> Path:
    """Copy a folder, one value of one of its JSON files changed; a number in a path is a place in a list."""
    shutil.copytree(source, target)
    values = json.loads((target / file).read_text())
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    part = values
    for key in parents:
        part = part[key]
    part[last] = value
    (target / file).write_text(json.dumps(values))
    return target


def refuse(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command on a folder that it has to refuse, and return its one line."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    code = cli.main(["doctor", str(folder)])
    took, grown = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert took < SECONDS and grown < KIBIBYTES
    return said.err
