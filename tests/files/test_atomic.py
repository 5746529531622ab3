"""Files appear complete or not at all, also where the writer is killed or the disk is full, and are named then."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.own_process import DIE, contents, run

from sa2va.files.atomic import CannotWrite, refusals, whole_file, whole_folder, write_text

SAVE_WEIGHTS = f"""
import torch
from sa2va.checkpoints.shards import write_shards
def tensors():
    yield "a", torch.full((300,), 2.0)
    {DIE}
outlines = {{name: torch.empty(300, device="meta") for name in "ab"}}
write_shards(place, outlines, tensors())
"""


def test_weights_that_are_there_outlive_a_kill_while_new_ones_are_written(tmp_path: Path) -> None:
    from sa2va.checkpoints.shards import write_shards

    old = {"a": torch.ones(300), "b": torch.zeros(300)}
    write_shards(tmp_path, {name: value.to("meta") for name, value in old.items()}, old.items())
    assert run(SAVE_WEIGHTS, tmp_path).returncode == -signal.SIGKILL
    found = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in old.items())


def test_a_model_is_replaced_as_a_whole_and_what_else_lies_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with whole_folder(folder) as draft:
        (draft / "config.json").write_text("old")
    (folder / "notes.txt").write_text("mine")
    code = (
        "from sa2va.files.atomic import whole_folder\nwith whole_folder(place) as draft:\n"
        "    (draft / 'config.json').write_text('new')\n    (draft / 'weights').write_text('half')\n"
    )
    assert run(code + f"    {DIE}", folder).returncode == -signal.SIGKILL
    assert contents(folder) == {"config.json": b"old", "notes.txt": b"mine"}
    assert run(code, folder).returncode == 0
    assert contents(folder) == {"config.json": b"new", "weights": b"half", "notes.txt": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "what the killed process left is gone"


def test_a_draft_of_a_process_that_is_at_work_stays(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "one") as first, whole_folder(tmp_path / "two") as second:
        assert first.is_dir() and second.is_dir() and first != second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: steps.append("flush"))
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (steps.append("rename"), real(*names)))
    write_text(tmp_path / "a.json", "{}")
    assert steps == ["flush", "rename"] and contents(tmp_path) == {"a.json": b"{}"}


FULL = {
    "text": "from sa2va.files.atomic import write_text\nwrite_text(place / 'a.json', 'x' * 9000)",
    "weights": "import torch\nfrom sa2va.checkpoints.shards import save_tensors\n"
    "save_tensors(place / 'a.json', {'a': torch.zeros(9000)})",
    "picture": "import numpy as np\nfrom sa2va.media.pictures import save_image\n"
    "save_image(place / 'a.png', np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8))",
    "video": "import numpy as np\nfrom sa2va.media.writer import VideoWriter\nframes = np.random.default_rng(0)\n"
    "with VideoWriter(place / 'a.mp4', 10) as video:\n"
    "    [video.write(frames.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(20)]",
    "journal": "from sa2va.journal import Journal\njournal = Journal(place / 'a.jsonl')\n"
    "[journal.append(str(key), {'text': 'x' * 150}) for key in range(50)]",
    "state": "import torch\nfrom sa2va.training.state import State, save_state\n"
    "save_state(place, State(1, {}, {'a': {'a': torch.zeros(9000)}}))",
    "log": "from sa2va.training.logger import RunLogger\n"
    "with RunLogger(place, quiet=True, tensorboard=False) as logger:\n"
    "    [logger.validation('a', step, {'error': 1.0}) for step in range(90)]",
    "tensorboard": "import itertools, time\nfrom sa2va.training.stage import StageConfig\n"
    "from sa2va.training.logger import RunLogger\nlogger = RunLogger(place, quiet=True)\n"
    "logger._write = lambda record: None\n"
    "logger.start_stage(StageConfig(name='a', steps=9, batch_size=1, lr=1), 0)\n"
    "with logger:\n    [logger.validation('a', step, {'error': 1.0}) for step in range(400)]",
}
NAMES = {"picture": "a.png", "video": "a.mp4", "journal": "a.jsonl", "log": "log.jsonl"}
NAMES |= {"state": "state-00000001/shard-00000/model.safetensors", "tensorboard": "tensorboard/a"}


WRITE_ALL = f"""
import contextlib, io, json, traceback
told = {{}}
for name, code in {FULL!r}.items():
    (place / name).mkdir()
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            exec(code, {{"place": place / name}})
            error = ""
        except ValueError as refusal:
            error = str(refusal)
        except BaseException:
            error = traceback.format_exc()
    told[name] = error, errors.getvalue()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """Run every writer on a full disk, in one process; return the folder, and what each raised and wrote to stderr."""
    folder = tmp_path_factory.mktemp("full")
    done = run(WRITE_ALL, folder, full_disk=True)
    assert done.stderr == "", done
    return folder, json.loads(done.stdout)


@pytest.mark.parametrize("what", list(FULL))
def test_what_a_full_disk_refuses_is_named_in_one_line(what: str, full_disk: tuple[Path, dict[str, list[str]]]) -> None:
    folder, told = full_disk[0] / what, full_disk[1]
    error, errors = told[what]
    assert error.startswith(f"{folder / NAMES.get(what, 'a.json')}: cannot be written (") and "\n" not in error, error
    assert errors == ""
    if what not in ("journal", "log", "tensorboard"):  # these grow line by line
        assert contents(folder) == {}


def test_errors_about_other_files_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.json"):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(BrokenPipeError), refusals(tmp_path / "a.json"):
        raise BrokenPipeError(32, "Broken pipe")
    with pytest.raises(CannotWrite, match="File exists"), whole_file(tmp_path / "a"):
        (tmp_path / "a").write_text("")
        write_text(tmp_path / "a" / "b", "")
