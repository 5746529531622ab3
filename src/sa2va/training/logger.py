"""Log a run: JSONL file, TensorBoard if installed, and progress on the screen.

Flow: trainer.py -> RunLogger -> `log.jsonl`, `tensorboard/`, progress bar (terminal) or periodic lines (file).
"""

import importlib.util
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from sa2va.files.atomic import refusals, write_text
from sa2va.terminal import shown
from sa2va.training.stage import StageConfig

LOG_NAME = "log.jsonl"


class RunLogger:
    """Logger of all stages of a run, in one folder. Use as a context manager."""

    def __init__(
        self,
        folder: str | Path,
        *,
        quiet: bool = False,
        tensorboard: bool = True,
        stream: TextIO | None = None,
        line_every_s: float = 30.0,
        main: bool = True,
    ) -> None:
        """Open the log.

        Args:
            folder: folder of the run; created if missing.
            quiet: write only the files.
            tensorboard: also write TensorBoard events, if the package is installed.
            stream: output stream of progress; by default standard error.
            line_every_s: seconds between two lines if `stream` is not a terminal.
            main: whether this process writes the log; other processes write nothing.
        """
        self.folder = Path(folder)
        self.quiet = quiet or not main
        self._stream = stream or sys.stderr
        self._line_every_s = line_every_s
        self._wants_tensorboard = main and tensorboard and importlib.util.find_spec("tensorboard") is not None
        self._board: _Board | None = None
        self._bar: Any = None
        self._stage: StageConfig | None = None
        self._last_line = self._stage_began = 0.0
        self._first_step = 0
        self._file: TextIO | None = None
        if not main:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = (self.folder / LOG_NAME).open("a", encoding="utf-8")
        except OSError as error:
            raise ValueError(
                f"{self.folder}: cannot write the log there ({error.strerror}); choose another folder"
            ) from error

    def __enter__(self) -> "RunLogger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start_stage(self, config: StageConfig, step: int) -> None:
        """Begin a stage at `step`; drop lines of the stage that a killed run wrote after that step."""
        self._stage = config
        self._first_step = step
        self._stage_began = self._last_line = time.monotonic()
        self._rewind(config.name, step)
        if self._wants_tensorboard:
            self._close_board()
            self._board = _Board(self.folder / "tensorboard" / config.name, step)
        if not self.quiet and self._stream.isatty():
            self._bar = tqdm(total=config.steps, initial=step, desc=config.name, file=self._stream, dynamic_ncols=True)
        elif not self.quiet:
            self._print(f"{config.name}: {step} of {config.steps} steps done, {config.batch_size} samples a step")

    def advance(self, step: int) -> None:
        """Count one finished step on the progress bar."""
        if self._bar is not None:
            self._bar.update(1)

    def log(self, record: dict[str, Any]) -> None:
        """Write one record with stage, step, losses, lr, grad_norm, seconds, samples_per_s.

        If every step since the last record was skipped, losses are empty and grad_norm is None.
        """
        self._write(record)
        if self._board is not None:
            for name, value in record["losses"].items():
                self._board.add(f"loss/{name}", value, record["step"])
            for name in ("lr", "grad_norm", "samples_per_s"):
                if record[name] is not None:
                    self._board.add(f"run/{name}", record[name], record["step"])
        if self.quiet or self._stage is None:
            return
        losses = " ".join(f"{name} {value:.4g}" for name, value in record["losses"].items())
        speed = f"{record['samples_per_s']:.1f} samples/s"
        if self._bar is not None:
            self._bar.set_postfix_str(f"{losses} | {speed}", refresh=False)
        elif time.monotonic() - self._last_line >= self._line_every_s or record["step"] == self._stage.steps:
            self._last_line = time.monotonic()
            done, total = record["step"], self._stage.steps
            pace = (self._last_line - self._stage_began) / max(1, done - self._first_step)
            left = tqdm.format_interval(pace * (total - done))
            self._print(f"{self._stage.name} {done}/{total} {losses} | {speed}, {left} left")

    def validation(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Write the figures of one validation."""
        self._write({"stage": stage, "step": step, "validation": figures})
        if self._board is not None:
            for name, value in figures.items():
                self._board.add(f"validation/{name}", value, step)
        self.note(f"{stage} {step}: " + " ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    def table(self, stage: str, step: int, rows: Sequence[Mapping[str, str | float]]) -> None:
        """Write rows of equal keys, and show them as a table with a column for each key."""
        self._write({"stage": stage, "step": step, "table": list(rows)})
        cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)] if rows else []
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            padded = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
            self.note("  ".join(padded))

    def note(self, text: str) -> None:
        """Show one line above the progress bar."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.write(shown(text), file=self._stream)
        else:
            self._print(text)

    def end_stage(self) -> None:
        """Close the progress bar and flush the files."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._close_board()
        if self._file is not None:
            with refusals(self.folder / LOG_NAME):
                self._file.flush()
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the log."""
        if self._file is not None and not self._file.closed:
            with refusals(self.folder / LOG_NAME), self._file:
                self.end_stage()

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            with refusals(self.folder / LOG_NAME):
                self._file.write(json.dumps(record) + "\n")
                self._file.flush()

    def _print(self, text: str) -> None:
        tell(text, stream=self._stream)

    def _close_board(self) -> None:
        board, self._board = self._board, None
        if board is not None:
            board.close()

    def _rewind(self, stage: str, step: int) -> None:
        """Drop the stage's lines after `step`, and a truncated last line."""
        if self._file is None:
            return
        self._file.close()
        path = self.folder / LOG_NAME
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _belongs(line, stage, step)]
        if kept != lines:
            write_text(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")


class _Board:
    """TensorBoard writer of one stage. An error of its thread is raised by the next `add`, and reported once."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._hook = folder, threading.excepthook
        with refusals(folder):
            self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        threading.excepthook = self._keep_silent

    def add(self, name: str, value: float, step: int) -> None:
        with refusals(self._folder):
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        threading.excepthook = self._hook
        with refusals(self._folder):
            self._writer.close()

    def _keep_silent(self, failure: threading.ExceptHookArgs) -> None:
        # The next `add` raises the thread's exception; the hook would print it as well.
        if not isinstance(failure.exc_value, OSError):
            self._hook(failure)


def tell(text: str, *, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Print one line, by default to standard error."""
    if not quiet:
        print(shown(text), file=stream or sys.stderr, flush=True)


def _cell(value: str | float) -> str:
    return f"{value:,}" if isinstance(value, int) else value if isinstance(value, str) else f"{value:.2%}"


def _belongs(line: str, stage: str, step: int) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return record.get("stage") != stage or record.get("step", 0) <= step
