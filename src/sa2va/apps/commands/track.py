"""Track what expressions refer to through a video: `sa2va track clip.mp4 "the red car" "the dog" -o out/`.

Flow: video, expressions -> Predictor.track -> FrameResult by FrameResult -> TrackWriter -> files.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sa2va.apps.options import (
    JsonOption,
    MediaArgument,
    ModelChoice,
    OutputOption,
    QuietOption,
    require_expression,
    takes_model,
)
from sa2va.apps.report import describe_files, remark, say
from sa2va.files.staging import staged

if TYPE_CHECKING:
    from sa2va.apps.track_files import TrackWriter
    from sa2va.inference.results import FrameResult
    from sa2va.media.source import Media


class Keyframes(StrEnum):
    """Choice of the key frames, which the MLLM reads."""

    UNIFORM = "uniform"
    FIRST = "first"
    CONTENT = "content"


@takes_model
def track(
    video: MediaArgument,
    expression: Annotated[
        list[str],
        typer.Argument(metavar="EXPRESSION...", help='Referring expressions, as in "the red car".', show_default=False),
    ],
    output: OutputOption = None,
    num_keyframes: Annotated[
        int | None, typer.Option(min=1, help="Number of key frames. [default: the model's]")
    ] = None,
    keyframes: Annotated[
        Keyframes | None,
        typer.Option(help="Key frames: evenly spread, the first, or the most different. [default: the model's]"),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
) -> None:
    """Track what expressions refer to through a video."""
    from sa2va.apps.track_files import TrackWriter
    from sa2va.data.prompts import SEGMENT
    from sa2va.inference.results import claim_files
    from sa2va.media.source import open_media

    expressions = [require_expression(one) for one in expression]
    if output is None:
        raise ValueError("a track goes to files; add -o FOLDER for overlay, masks and COCO-video JSON")
    media = open_media(video)
    if media.is_image:
        raise ValueError(f"{video}: one picture; track needs a video, for a picture use sa2va segment")
    with staged(output, claim_files(is_image=False), media.files) as scratch:
        assert scratch is not None
        predictor = choice.load()
        requests = {SEGMENT[0].format(one): one for one in expressions}
        session = predictor.track(media, requests, num_keyframes=num_keyframes, keyframes=keyframes)
        with closing(session), TrackWriter(scratch, media, expressions) as writer:
            seen = follow(session, media, writer, quiet)
        files = writer.files
        phrases = {key: phrase or expressions[0] for key, phrase in writer.phrases.items()}
        objects = [{"id": key, "expression": phrases[key], "num_frames": seen[key]} for key in seen]
        if as_json:
            names = [str(output / path.relative_to(scratch)) for path in files]
            print(json.dumps({"num_frames": writer.num_frames, "objects": objects, "files": names}))
        else:
            print_summary(writer.num_frames, seen, phrases, expressions)
        remark(describe_files(files, scratch, output), quiet)


def follow(session: Iterable["FrameResult"], media: "Media", writer: "TrackWriter", quiet: bool) -> dict[int, int]:
    """Write a track while it runs; return the number of frames in which each object is visible, by id."""
    from tqdm import tqdm

    seen: dict[int, int] = {}
    results = tqdm(session, total=media.num_frames, desc="track", unit="frame", disable=quiet, file=sys.stderr)
    # Decoding the video a second time costs little and keeps memory constant.
    for frame, result in zip(media, results, strict=True):
        writer.add(frame, result)
        for found in result.objects:
            seen[found.id] = seen.get(found.id, 0) + bool(found.mask.any())
    return seen


def print_summary(
    num_frames: int, seen: Mapping[int, int], phrases: Mapping[int, str], expressions: Sequence[str]
) -> None:
    for expression in dict.fromkeys(expressions):
        if expression not in phrases.values():
            say(f"The model finds no {expression!r} in {num_frames} frames.")
    for number, count in seen.items():
        say(f"{number} {phrases[number]}: seen in {count} of {num_frames} frames")
