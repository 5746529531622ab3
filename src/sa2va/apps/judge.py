"""Define the options of a judge, a language model that rates answers.

Flow: command line, environment -> JudgeChoice -> evaluation.judge.judging around an evaluation.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sa2va.apps.options import dataclass_options, parse_path, takes

PANEL = "The judge of MMBench-Video"
KEY = "SA2VA_JUDGE_KEY"  # environment variable


@dataclass(frozen=True)
class JudgeChoice:
    """A judge behind an OpenAI-compatible server, as options."""

    judge: Annotated[
        str | None,
        typer.Option("--judge", metavar="URL", help="OpenAI-compatible server.", rich_help_panel=PANEL),
    ] = None
    judge_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model of the server.", rich_help_panel=PANEL)
    ] = None
    judge_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=parse_path, help=f"File with its API key; else {KEY}.", rich_help_panel=PANEL
        ),
    ] = None
    judge_prompt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=parse_path, help="File with its system prompt; else ours.", rich_help_panel=PANEL
        ),
    ] = None

    def judging(self, folder: Path | None) -> AbstractContextManager[None]:
        """Return a context in which benchmarks ask this judge; verdicts are kept in a folder.

        Raises:
            ValueError: a file cannot be read, or the address is none.
        """
        from sa2va.evaluation.judge import INSTRUCTIONS, Judge, judging

        key = os.environ.get(KEY) if self.judge_key_file is None else read_text(self.judge_key_file)
        instructions = INSTRUCTIONS if self.judge_prompt is None else read_text(self.judge_prompt)
        return judging(Judge(self.judge, self.judge_model, key=key, folder=folder, instructions=instructions))


def read_text(path: Path) -> str:
    """Read a small text file without the white space around it.

    Raises:
        ValueError: it cannot be read, or holds nothing.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text ({error})") from None
    if not text:
        raise ValueError(f"{path}: is empty")
    return text


def takes_judge(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option per field of JudgeChoice to a command, which receives it as `judged_by`."""
    return takes(command, "judged_by", dataclass_options(JudgeChoice), lambda values: JudgeChoice(**values))
