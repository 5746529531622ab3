"""Predict word-by-word scanpaths: `sa2va gaze predict photo.jpg "the red cup" -o out/`.

Flow: picture, words (an expression, or standard input word by word) -> gaze/predictor.py -> scanpaths as text, JSON,
    PNG and an animation in which words appear one by one.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from sa2va.apps.options import (
    ExpressionArgument,
    JsonOption,
    ModelChoice,
    OutputOption,
    QuietOption,
    build_group,
    parse_path,
    require_text,
    standard_input,
    takes_model,
)
from sa2va.apps.report import describe_files, remark, say
from sa2va.files.atomic import write_text
from sa2va.files.claim import Claim
from sa2va.files.staging import staged
from sa2va.gaze.commands.eval import evaluate
from sa2va.tokens import require_utf8

if TYPE_CHECKING:
    from sa2va.gaze.predictor import GazePredictor, GazeStream
    from sa2va.gaze.scanpath import Pack, Scanpath
    from sa2va.media.source import Media

ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="Image.", show_default=False)]
GazeOption = Annotated[
    Path | None,
    typer.Option("--gaze", metavar="FOLDER", parser=parse_path, help="Gaze weights; by default those of the model."),
]
SamplesOption = Annotated[int, typer.Option(min=1, max=1000, help="Number of scanpaths to sample.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Random seed.")]
LONGEST_LINE = 2**16  # characters
PICTURE, FILM, RECORDS = "scanpath.png", "scanpath", "scanpaths.json"
FILMS = (r"scanpath\.mp4", r"scanpath\.gif")


class Film(StrEnum):
    MP4 = "mp4"
    GIF = "gif"
    NONE = "none"


class Mode(StrEnum):
    SAMPLE = "sample"
    MODE = "mode"


class WholeMode(StrEnum):
    """Modes of whole scanpaths; a stream cannot give a consensus."""

    SAMPLE = "sample"
    MODE = "mode"
    CONSENSUS = "consensus"


class LastFixation(StrEnum):
    HARD = "hard"
    SOFT = "soft"


ModeOption = Annotated[Mode, typer.Option(help="Sample each scanpath, or take the most likely one.")]
WholeModeOption = Annotated[
    WholeMode, typer.Option(help="Sample each scanpath, take the most likely one, or the medoid of the samples.")
]
LastFixationOption = Annotated[
    LastFixation, typer.Option(help="Last-fixation constraint: on the target (hard), or none (soft).")
]

app = build_group("Predict human scanpaths word by word.")
app.command("eval")(evaluate)


@app.command("predict")
@takes_model
def predict(
    image: ImageArgument,
    expression: ExpressionArgument,
    output: OutputOption = None,
    samples: SamplesOption = 10,
    mode: WholeModeOption = WholeMode.SAMPLE,
    last_fixation: LastFixationOption = LastFixation.HARD,
    seed: SeedOption = 0,
    film: Annotated[Film, typer.Option(help="Format of the animation.")] = Film.MP4,
    gaze: GazeOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
) -> None:
    """Predict scanpaths of people who look at an image while they hear an expression.

    With -o: an image with numbered fixations colored by word, an animation, and all scanpaths as JSON.
    """
    text = require_text(expression, "EXPRESSION")
    picture = open_picture(image)  # report a damaged file before loading the model
    frame = picture.frame(0)
    with staged(output, Claim(tuple(map(re.escape, file_names(film))), FILMS), picture.files) as scratch:
        from sa2va.gaze.model.grounding import split_words

        words = split_words(text)
        each = "sample" if mode is WholeMode.CONSENSUS else mode.value
        stream = load(choice, gaze).start(
            image, num_samples=samples, seed=seed, mode=each, last_fixation=last_fixation.value
        )
        for word in words:
            stream.hear(word)
        stream.end()
        paths = stream.scanpaths
        if mode is WholeMode.CONSENSUS:
            from sa2va.gaze.predictor import choose_consensus

            paths = [choose_consensus(paths)]
        if as_json:
            print(json.dumps([path.to_json() for path in paths]))
        else:
            for line in scanpath_lines(paths[0]):
                say(line)
        if output and scratch:
            files = write_files(scratch, frame, paths, stream.onsets, film)
            remark(describe_files(files, scratch, output), quiet)
        elif not as_json:
            remark("nothing was written; add -o FOLDER for the image, the animation and JSON", quiet)


@app.command("stream")
@takes_model
def stream(
    image: ImageArgument,
    samples: SamplesOption = 1,
    mode: ModeOption = Mode.SAMPLE,
    last_fixation: LastFixationOption = LastFixation.HARD,
    seed: SeedOption = 0,
    gaze: GazeOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
) -> None:
    """Read words from standard input and predict fixations after each, until the input ends.

    With --json, one line of JSON per word.
    """
    source = standard_input("words")
    open_picture(image).frame(0)
    looking = load(choice, gaze).start(
        image, num_samples=samples, seed=seed, mode=mode.value, last_fixation=last_fixation.value
    )
    if source.isatty():
        remark("type words; Enter submits them, Ctrl-D ends the expression", quiet)
    tell(looking, None, looking.bot, as_json=as_json)
    for word in spoken_words(read_lines(source)):
        tell(looking, word, looking.hear(word), as_json=as_json)
    tell(looking, None, looking.end(), as_json=as_json)


@app.command("train")
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="tiny_gaze, published_gaze, or published_gaze_lora.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Settings of the recipe to override.")
    ] = None,
    output: OutputOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings of the run and stop.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Train a gaze decoder on a frozen or LoRA-adapted model; repeat the command to resume."""
    from sa2va.gaze.training import recipes

    if dry_run:
        print(json.dumps(asdict(recipes.configure(recipe, overrides or [])), indent=1, default=str))
        return
    folder = recipes.train_gaze(recipe, overrides or [], str(output) if output else None, quiet)
    remark(f"wrote {folder}/; use it with --gaze {folder}", quiet)


def load(choice: ModelChoice, folder: Path | None) -> "GazePredictor":
    """Load the model with its gaze weights."""
    from sa2va.gaze.predictor import load_gaze

    return load_gaze(choice.model, gaze=folder, **choice.arguments())


def open_picture(image: str) -> "Media":
    """Open a picture.

    Raises:
        ValueError: the file cannot be read, or is a video or a folder.
    """
    from sa2va.media.source import open_media

    if image and Path(image).is_dir():  # otherwise a folder is read as a video, with misleading errors
        raise ValueError(f"{image}: expected a picture, got a folder; pass one of its pictures")
    media = open_media(image)
    if not media.is_image:
        raise ValueError(f"{media.name}: expected a picture, got a video; pass one of its frames")
    return media


def read_lines(stream: TextIO) -> Iterator[str]:
    """Yield lines as they arrive.

    Raises:
        ValueError: a line exceeds LONGEST_LINE.
    """
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            raise ValueError(f"a line has {LONGEST_LINE} characters or more; expected words between spaces or lines")
        yield line


def spoken_words(lines: Iterable[str]) -> Iterator[str]:
    """Yield the words of each line as soon as the line arrives."""
    for line in lines:
        yield from require_utf8(line.strip(), "line").split()


def tell(looking: "GazeStream", word: str | None, packs: "Sequence[Pack]", *, as_json: bool) -> None:
    """Print every sample's fixations of one word, flushed so that a pipe gets them at once."""
    if as_json:
        rows = [[vars(fixation) for fixation in pack.fixations] for pack in packs]
        print(json.dumps({"word": word, "packs": rows, "target": round(looking.target.score, 4)}), flush=True)
        return
    for line in pack_lines(word or "-", packs):
        say(line)


def scanpath_lines(path: "Scanpath") -> list[str]:
    """Format one line per pack of a scanpath."""
    names = ["(start)", *path.words, "(end)"]
    width = max(map(len, names))
    return [
        line for name, pack in zip(names, path.packs, strict=True) for line in pack_lines(name.ljust(width), [pack])
    ]


def pack_lines(name: str, packs: "Sequence[Pack]") -> list[str]:
    """Format the fixations of each sample during a word: points in px, durations in ms."""
    rows = []
    for pack in packs:
        seen = [f"({one.x:.0f}, {one.y:.0f}) {one.duration:.0f} ms" for one in pack.fixations]
        rows.append(f"{name}  {'  '.join(seen) or 'no new fixation'}")
    return rows


def file_names(film: Film) -> list[str]:
    """Return the file names of the image, the scanpaths and, unless NONE, the animation."""
    return [PICTURE, RECORDS, *([] if film is Film.NONE else [f"{FILM}.{film.value}"])]


def write_files(
    folder: Path, frame: Any, paths: "Sequence[Scanpath]", onsets: Sequence[float], film: Film
) -> list[Path]:
    """Write image, animation and JSON of the scanpaths; the first is the main one, the others appear as context."""
    from sa2va.gaze.render import draw_scanpath, film_scanpath, save_film
    from sa2va.gaze.sheet import Sheet
    from sa2va.media.pictures import save_image

    first, *others = paths
    sheet = Sheet(frame=frame, scanpath=first, others=others, onsets=onsets)
    files = [folder / name for name in file_names(film)]
    save_image(files[0], draw_scanpath(sheet))
    write_text(files[1], json.dumps([path.to_json() for path in paths]) + "\n")
    if film is not Film.NONE:
        save_film(files[2], film_scanpath(sheet))
    return files
