"""Follow what an expression refers to through a video: `sa2va track clip.mp4 "the red car" -o out/`.

Flow: video, expression -> Predictor.track -> FrameResult by FrameResult -> TrackWriter -> files.
"""

import json
import sys
from collections.abc import Iterable
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sa2va.apps.options import (
    ExpressionArgument,
    JsonOption,
    MediaArgument,
    ModelChoice,
    OutputOption,
    QuietOption,
    require_text,
    takes_model,
)
from sa2va.apps.output import describe_files, staged
from sa2va.apps.report import remark

if TYPE_CHECKING:
    from sa2va.apps.track_files import TrackWriter
    from sa2va.media import Media
    from sa2va.model.results import FrameResult


class Keyframes(StrEnum):
    """Which frames of a clip the model reads."""

    UNIFORM = "uniform"
    FIRST = "first"
    CONTENT = "content"


@takes_model
def track(
    video: MediaArgument,
    expression: ExpressionArgument,
    output: OutputOption = None,
    num_keyframes: Annotated[int, typer.Option(min=1, help="How many frames of the clip the model reads.")] = 5,
    keyframes: Annotated[
        Keyframes | None,
        typer.Option(help="Which: spread over the clip, its first, or those that differ most. [default: the model's]"),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
) -> None:
    """Mask what an expression refers to in every frame of a video."""
    from sa2va.apps.track_files import TrackWriter
    from sa2va.data.prompts import SEGMENT
    from sa2va.media import open_media

    expression = require_text(expression, "EXPRESSION").rstrip(".?")
    if output is None:
        raise ValueError("a track goes to files; add -o FOLDER for overlay, masks and COCO-video JSON")
    with staged(output) as scratch:
        assert scratch is not None
        media = open_media(video)
        if media.is_image:
            raise ValueError(f"{video}: one picture; track needs a video, for a picture use sa2va segment")
        predictor = choice.load()
        request = SEGMENT[0].format(expression)
        session = predictor.track(media, request, num_keyframes=num_keyframes, keyframes=keyframes)
        with closing(session), TrackWriter(scratch, media, expression) as writer:
            seen = follow(session, media, writer, quiet)
        files = writer.files
        summary = {"num_frames": writer.num_frames, "objects": [{"id": key, "num_frames": seen[key]} for key in seen]}
        if as_json:
            print(json.dumps(summary | {"files": [str(output / path.relative_to(scratch)) for path in files]}))
        else:
            print_summary(writer.num_frames, seen, expression)
        remark(describe_files(files, scratch, output), quiet)


def follow(session: Iterable["FrameResult"], media: "Media", writer: "TrackWriter", quiet: bool) -> dict[int, int]:
    """Write a track as it runs; return in how many frames each object was seen, by id."""
    from tqdm import tqdm

    seen: dict[int, int] = {}
    results = tqdm(session, total=media.num_frames, desc="track", unit="frame", disable=quiet, file=sys.stderr)
    # The video is decoded a second time beside the tracker, which costs little and keeps memory flat.
    for frame, result in zip(media, results, strict=True):
        writer.add(frame, result)
        for found in result.objects:
            seen[found.id] = seen.get(found.id, 0) + bool(found.mask.any())
    return seen


def print_summary(num_frames: int, seen: dict[int, int], expression: str) -> None:
    if not seen:
        print(f"The model finds no {expression!r} in {num_frames} frames.")
    for number, count in seen.items():
        print(f"{number} {expression}: seen in {count} of {num_frames} frames")
