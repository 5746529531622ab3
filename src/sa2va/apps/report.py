"""Print answers as text or JSON, and remarks to standard error.

Flow: Prediction, files -> standard output (the answer) and standard error (remarks); our warnings -> remarks.
"""

import json
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import sa2va
from sa2va.terminal import shown

if TYPE_CHECKING:
    from sa2va.inference.results import Prediction

PACKAGE = Path(sa2va.__file__).parent
SHOWN_NAMES = 4  # file names in the closing line


@dataclass
class Manner:
    """Verbosity of a command: set by --quiet, read by the code that wraps the command."""

    quiet: bool = False


def remark(text: str, quiet: bool = False) -> None:
    """Print a remark to standard error, so that a pipe carries only the answer."""
    if not quiet:
        with suppress(OSError):  # a remark that cannot be printed must not cost the answer
            print(shown(text), file=sys.stderr)


def say(text: str, end: str = "\n") -> None:
    """Print an answer as text, flushed so that the reader of a pipe gets it at once."""
    print(shown(text, lines=True), end=end, flush=True)


@contextmanager
def warnings_as_remarks(manner: Manner) -> Generator[None]:
    """Print warnings of this package as one-line remarks; leave warnings of other libraries as they are."""
    show_as_before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not (issubclass(category, UserWarning) and Path(filename).is_relative_to(PACKAGE)):
            show_as_before(shown(str(message), lines=True), category, filename, lineno, file, line)
            return
        from tqdm import tqdm

        with tqdm.external_write_mode(file=sys.stderr):  # clears a progress bar first
            remark(f"sa2va: {' '.join(str(message).split())}", manner.quiet)

    setattr(warnings, "showwarning", show)  # noqa: B010 - a type checker forbids the assignment
    try:
        yield
    finally:
        warnings.showwarning = show_as_before


def prediction_to_dict(prediction: "Prediction", files: Sequence[Path] = ()) -> dict[str, Any]:
    """Return what `--json` prints: the text, the objects with their scores, COCO annotations, the files."""
    objects = [
        {
            "id": found.id,
            "phrase": found.phrase,
            "presence": round(float(found.presence), 4),
            "scores": [round(float(score), 4) for score in found.scores],
        }
        for found in prediction.objects
    ]
    return {
        "text": prediction.text,
        "objects": objects,
        "coco": prediction.to_coco(),
        "files": [str(path) for path in files],
    }


def object_lines(prediction: "Prediction") -> list[str]:
    """Describe each object in one line: number, phrase, presence, expected IoU, size."""
    from sa2va.masks import area

    size = prediction.num_frames * prediction.media.height * prediction.media.width  # px
    lines = []
    for found in prediction.objects:
        name = f" {found.phrase}" if found.phrase else ""
        sure = f"presence {found.presence:.2f}, expected IoU {found.scores.mean():.2f}"
        lines.append(f"  {found.id}{name}: {sure}, {100 * sum(map(area, found.rles)) / size:.1f} % of the picture")
    return lines


def print_prediction(prediction: "Prediction", *, as_json: bool, quiet: bool, files: Sequence[Path] = ()) -> None:
    """Print an answer, and a remark for each of its objects."""
    from sa2va.metrics.text import plain_text

    if as_json:
        print(json.dumps(prediction_to_dict(prediction, files)))
        return
    say(plain_text(prediction.text))
    for line in object_lines(prediction):
        remark(line, quiet)


def describe_files(files: Sequence[Path], scratch: Path, folder: Path) -> str:
    """Describe the written files in one line.

    Args:
        files: the files, in the scratch folder.
        scratch: the scratch folder.
        folder: where they will be.
    """
    names = [path.relative_to(scratch).as_posix() for path in files]
    some = ", ".join(names[:SHOWN_NAMES])
    rest = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    noun = "file" if len(names) == 1 else "files"
    return f"wrote {len(names)} {noun} to {folder}/: {some}{rest}"
