"""Tell a user what the model answered, as text or as JSON.

Flow: Prediction, files -> standard output (the answer) and standard error (remarks); warnings of ours -> remarks.
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
SHOWN_NAMES = 4  # of the files just written, in the closing line


@dataclass
class Manner:
    """How a command speaks; --quiet sets it, and what wraps the command reads it."""

    quiet: bool = False


def remark(text: str, quiet: bool = False) -> None:
    """Say something beside the answer; it goes to standard error, so that a pipe carries the answer alone."""
    if not quiet:
        with suppress(OSError):  # no answer is lost because nobody can be told of it
            print(shown(text), file=sys.stderr)


def say(text: str, end: str = "\n") -> None:
    """Print an answer as text, at once, so that a pipe can follow."""
    print(shown(text, lines=True), end=end, flush=True)


@contextmanager
def warnings_as_remarks(manner: Manner) -> Generator[None]:
    """Say what our own code warns of as a remark, in one line; warnings of other libraries stay as they are."""
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

        with tqdm.external_write_mode(file=sys.stderr):  # a progress bar makes way
            remark(f"sa2va: {' '.join(str(message).split())}", manner.quiet)

    setattr(warnings, "showwarning", show)  # noqa: B010 - for a type checker it is no variable
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
    """Print an answer; the lines about its objects are remarks."""
    from sa2va.metrics.text import plain_text

    if as_json:
        print(json.dumps(prediction_to_dict(prediction, files)))
        return
    say(plain_text(prediction.text))
    for line in object_lines(prediction):
        remark(line, quiet)


def describe_files(files: Sequence[Path], scratch: Path, folder: Path) -> str:
    """Say in one line what was written and where.

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
