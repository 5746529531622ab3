"""Run the command line: parse it, call one command, turn each failure into one line and an exit code.

Flow: sys.argv -> typer -> apps/commands/*.py -> sa2va; 0 done, 1 a check failed or an internal error, 2 bad input,
    130 interrupted, 143 terminated, 129 hung up. SA2VA_DEBUG=1 shows the traceback.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Annotated

import typer

import sa2va
from sa2va.apps.commands.assemble import assemble
from sa2va.apps.commands.bulk import bulk
from sa2va.apps.commands.caption import caption
from sa2va.apps.commands.chat import chat
from sa2va.apps.commands.compare import compare
from sa2va.apps.commands.convert import convert
from sa2va.apps.commands.data import app as data
from sa2va.apps.commands.demo import demo
from sa2va.apps.commands.doctor import doctor
from sa2va.apps.commands.eval import evaluate, score, takes_benchmarks
from sa2va.apps.commands.finetune import finetune
from sa2va.apps.commands.parity import parity
from sa2va.apps.commands.segment import segment
from sa2va.apps.commands.synth import synth
from sa2va.apps.commands.track import track
from sa2va.apps.commands.train import train
from sa2va.apps.options import HELP
from sa2va.apps.report import Manner, warnings_as_remarks
from sa2va.extensions import collect, missing_import, resolve
from sa2va.terminal import shown

DONE, FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
ENDED_BY_SIGNAL = 128  # plus the signal's number: 143 for SIGTERM, 129 for SIGHUP
# Windows has no SIGHUP.
SIGNALS = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
COMMANDS = {
    "segment": segment,
    "track": track,
    "caption": caption,
    "chat": chat,
    "bulk": bulk,
    "synth": synth,
    "demo": demo,
    "train": train,
    "finetune": finetune,
    "eval": evaluate,
    "score": score,
    "compare": compare,
    "convert": convert,
    "assemble": assemble,
    "doctor": doctor,
    "parity": parity,
}
GROUPS = {"data": data}


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"sa2va {sa2va.__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Ask about an image or a video; get an answer, and a mask for everything the answer points at."""


def build_app() -> typer.Typer:
    """Build the app from the commands of the core and of extensions.

    Raises:
        ValueError: an extension cannot be imported.
    """
    app = typer.Typer(
        name="sa2va",
        callback=root,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings=HELP,
    )
    for name, command in (COMMANDS | {"eval": takes_benchmarks(evaluate)}).items():
        app.command(name)(command)
    extended = {name: resolve(reference) for name, reference in collect("GROUPS").items()}
    for name, group in (GROUPS | extended).items():
        app.add_typer(group, name=name)
    return app


class Terminated(BaseException):
    """Raised when a signal arrives; a BaseException like KeyboardInterrupt, so that only `main` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def terminable() -> Generator[None]:
    """Make SIGTERM and SIGHUP end the block as Ctrl-C does, so that scratch files are removed.

    Handlers of the caller stay, and so does SIGHUP ignored by `nohup`.
    """

    def end(number: int, frame: object) -> None:
        raise Terminated(number)

    # Only the main thread may set handlers.
    is_main = threading.current_thread() is threading.main_thread()
    ours = [number for number in SIGNALS if is_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def fill_closed_streams() -> None:
    """Redirect closed standard streams (as after `>&-` in a shell) to the null device.

    Otherwise the next opened file, even a result, gets the stream's descriptor, and libraries write into it.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)  # sys.stdin stays None: a command that needs it raises an error
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it stays open to the end
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def is_usage_error(error: BaseException) -> bool:
    """Return whether typer rejected the command line; the class of its error differs between versions."""
    return hasattr(error, "format_message")


def one_line(error: BaseException) -> str:
    """Format an error as one line that names the file or value."""
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.strerror}: {os.fspath(error.filename)!r}"
    elif is_usage_error(error):
        explain: Callable[[], str] = getattr(error, "format_message")  # noqa: B009 - no type says that it is there
        command = getattr(getattr(error, "ctx", None), "command_path", "sa2va")
        text = f"{explain()} (see {command} --help)"
    else:
        text = str(error) or type(error).__name__
    return shown(" ".join(text.split()))


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments after `sa2va`; None = those of the process.

    Returns:
        The exit code: 0 done, 1 a check failed or an internal error, 2 bad input, 130 interrupted, 143 terminated, 129
        hung up.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # warnings of Transformers do not concern users
    # On some CPUs peft's import of bitsandbytes warns that a faster kernel could be installed.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # Spinning threads make a small model many times slower on a busy machine (LOG.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    argv = sys.argv[1:] if argv is None else argv
    fill_closed_streams()
    try:
        manner = Manner()
        with terminable(), warnings_as_remarks(manner):
            code = build_app()(argv or ["--help"], prog_name="sa2va", standalone_mode=False, obj=manner)
        return code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Terminated as error:
        return ENDED_BY_SIGNAL + error.number
    except BrokenPipeError:  # the reader of the pipe has exited, as in `sa2va ... | head -1`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it at exit
        return DONE
    except Exception as error:
        if os.environ.get("SA2VA_DEBUG") == "1":
            raise
        if extension := missing_import(error):
            print(f"sa2va: this needs the extension {extension}, which is not installed", file=sys.stderr)
            return BAD_INPUT
        if isinstance(error, ValueError | OSError) or is_usage_error(error):
            print(f"sa2va: {one_line(error)}", file=sys.stderr)
            return BAD_INPUT
        print(
            f"sa2va: unexpected {type(error).__name__}: {one_line(error)} (SA2VA_DEBUG=1 shows where)", file=sys.stderr
        )
        return FAULT


if __name__ == "__main__":
    sys.exit(main())
