"""Defer the signals that end a run to the end of the current step.

Flow: SIGINT, SIGTERM, SIGHUP -> Signals.arrived -> trainer.py saves and exits.
"""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class Signals:
    """Signal handler that records the arrival of SIGINT, SIGTERM or SIGHUP."""

    def __init__(self) -> None:
        self.arrived = False

    def __call__(self, number: int, frame: object) -> None:
        if self.arrived:
            raise KeyboardInterrupt  # second signal: stop now; the last saved state remains
        self.arrived = True


@contextmanager
def deferred_signals() -> Generator[Signals]:
    """Within a `with` block, defer the signals that end a run (in the main thread only)."""
    signals = Signals()
    kept: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            numbers.append(signal.SIGHUP)
        kept = {number: signal.signal(number, signals) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def ignore_launcher() -> None:
    """Ignore SIGTERM in a process that is about to end, since the launcher's would cut off its error message."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
