"""Check scratch.py: folders are removed at the end, those of killed runs at the next start, others never."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sa2va.files.scratch import PREFIX, open_scratch

RUN = (
    "import sys, time; from pathlib import Path; from sa2va.files.scratch import open_scratch\n"
    "with open_scratch(Path(sys.argv[1])) as scratch:\n"
    "    (scratch / 'half.png').write_bytes(b'half'); print(scratch, flush=True); time.sleep(60)\n"
)


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    """Start a process that holds a scratch folder."""
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and Path(process.stdout.readline().strip()).is_dir()
    yield process
    process.kill()
    process.wait()


def scratch_folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".sa2va")]


def test_a_scratch_folder_goes_with_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_scratch(tmp_path) as scratch:
        (scratch / "half.png").write_bytes(b"half")
        assert scratch.is_relative_to(tmp_path) and scratch_folders(tmp_path)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_and_what_a_live_run_needs_stays(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    (tmp_path / (PREFIX + "mine")).mkdir()  # a user may call a folder so
    (left,) = [path for path in scratch_folders(tmp_path) if path.name != PREFIX + "mine"]
    with open_scratch(tmp_path), open_scratch(tmp_path):
        assert len(scratch_folders(tmp_path)) == 4
        assert [path.name for path in left.rglob("*.png")] == ["half.png"]
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert left.is_dir()
    with open_scratch(tmp_path):
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == [PREFIX + "mine"]
