"""Run code in a process of its own, which may be killed or find the disk full."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

START = "import os, resource, signal, sys\nfrom pathlib import Path\nplace = Path(sys.argv[1])\n"
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
SMALL = 2000  # bytes, the largest file that `full_disk` lets a process write


def run(code: str, place: Path, *, full_disk: bool = False) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own; a limit on the size of files stands for a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL))

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", START + code, str(place)],
        env=environment, check=False, capture_output=True, text=True, preexec_fn=limit if full_disk else None,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def plain_signals() -> None:
    """Restore the default reaction to SIGINT and SIGHUP (preexec_fn): under nohup or in a script's background a test
    run inherits that they are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
