"""Shared helpers of the benchmarks: clocks, memory, tables and the record in RESULTS.md.

Flow: a script measures -> Table -> printed; with --record it replaces its section of RESULTS.md.
"""

import argparse
import ctypes
import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADER = """# Speed and memory

Each table is printed by the command above it. Ratios compare measurements of one run on one machine.
"""


@dataclass
class Table:
    """A Markdown table with verdicts below it."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    passed: bool = True

    def add(self, *cells: object) -> None:
        assert len(cells) == len(self.columns)
        self.rows.append([f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells])

    def judge(self, what: str, value: float, limit: float, *, at_least: bool = False) -> None:
        """Compare a figure with its bar and add the verdict."""
        holds = value >= limit if at_least else value <= limit
        self.passed &= holds
        bar = f"{'at least' if at_least else 'at most'} {limit:g}"
        self.verdicts.append(f"{what}: {value:.3g} (bar: {bar}) {'holds' if holds else 'MISSED'}")

    def __str__(self) -> str:
        lines = [f"| {' | '.join(row)} |" for row in (self.columns, ["---"] * len(self.columns), *self.rows)]
        return "\n".join([*lines, "", *(f"- {verdict}" for verdict in self.verdicts)])


def describe_machine(device: str = "cpu") -> str:
    """Describe date, device and library versions in one line."""
    import torch
    import transformers

    if device.startswith("cuda"):
        where = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        where = f"{os.cpu_count()} cores of {_cpu_name()}, {threads} thread{'s' * (threads > 1)}"
    return f"{date.today()}, {where}, torch {torch.__version__}, transformers {transformers.__version__}"


def _cpu_name() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def rss_mb(kind: str = "VmRSS") -> float:
    """Return the resident memory of this process, MB (Linux); `kind` is VmRSS, VmHWM (peak) or RssAnon."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{kind}:\s+(\d+) kB", status)
    assert found is not None, f"/proc/self/status has no {kind}"
    return int(found[1]) / 1024


def reset_peak(device: str = "cpu") -> float:
    """Forget the peak memory so far; return the memory now, MB: of this process, or of PyTorch on a GPU."""
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM becomes VmRSS
    return rss_mb()


Clock = Callable[[], float]  # seconds from an arbitrary origin


def choose_clock(device: str) -> Clock:
    """Choose CPU time for a single thread, which is robust to other load, else wall time."""
    import torch

    return time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def name_clock(clock: Clock) -> str:
    """Name a clock's unit, for a table's title."""
    return "CPU seconds" if clock is time.process_time else "seconds"


def seconds(action: Callable[[], object], repeats: int = 3, clock: Clock = time.perf_counter) -> float:
    """Return the median time of repeated calls, s."""
    return statistics.median(_once(action, clock) for _ in range(repeats))


def seconds_side_by_side(
    actions: dict[str, Callable[[], object]], repeats: int = 3, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Time several actions interleaved, so that background load affects all alike: medians, s."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            times[name].append(_once(action, clock))
    return {name: statistics.median(values) for name, values in times.items()}


def _once(action: Callable[[], object], clock: Clock) -> float:
    start = clock()
    action()
    return clock() - start


def parser(description: str) -> argparse.ArgumentParser:
    """Build a parser with the shared options."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--record", action="store_true", help="record the tables in RESULTS.md")
    return made


def repeat_command(script: str, made: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """Format the command of a run, without default options and --record."""
    said = []
    for name, value in vars(options).items():
        if name != "record" and value != made.get_default(name):
            value = " ".join(value) if isinstance(value, list) else value
            said.append(f"--{name}" if value is True else f"--{name} {value}")
    return " ".join(["python", f"benchmarks/{script}", *said])


def report(command: str, tables: Sequence[Table], *, record: bool, device: str = "cpu") -> int:
    """Print the tables, record them if asked, and return the exit status: 1 if a bar is missed."""
    machine = describe_machine(device)
    body = "\n\n".join(f"### {table.title}\n\n{table}" for table in tables)
    text = f"## `{command}`\n\n{machine}\n\n{body}\n"
    print(text)
    if record:
        _replace_section(command, text)
    return 0 if all(table.passed for table in tables) else 1


def _replace_section(command: str, text: str) -> None:
    old = RESULTS.read_text() if RESULTS.exists() else HEADER
    sections = re.split(r"(?m)^(?=## )", old)
    kept = [section for section in sections[1:] if not section.startswith(f"## `{command}`")]
    RESULTS.write_text("\n\n".join(part.rstrip() for part in [sections[0], *sorted([*kept, text])]) + "\n")
