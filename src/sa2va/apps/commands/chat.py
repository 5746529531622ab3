"""Chat about one image or video: `sa2va chat photo.jpg`, one question per line.

Flow: standard input -> Conversation.ask, which keeps the KV cache -> answer on standard output.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sa2va.apps.options import (
    JsonOption,
    MediaArgument,
    ModelChoice,
    OutputOption,
    QuietOption,
    Region,
    RegionOption,
    SamplingChoice,
    parse_regions,
    standard_input,
    takes_model,
    takes_sampling,
)
from sa2va.apps.report import describe_files, object_lines, prediction_to_dict, remark, say
from sa2va.files.claim import Claim
from sa2va.files.staging import clear, staged
from sa2va.tokens import require_utf8

if TYPE_CHECKING:
    from sa2va.inference.conversation import Conversation
    from sa2va.inference.requests import Options

LEAVE = {"exit", "quit", "bye"}


@takes_model
@takes_sampling
def chat(
    media: MediaArgument,
    output: OutputOption = None,
    region: RegionOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
    sampling: SamplingChoice,
) -> None:
    """Chat about an image or a video, one question per line; "exit" or the end of input ends it.

    Questions come from the keyboard or from a pipe. Regions belong to the first question, which calls them
    region1, region2 and so on. With -o, the masks of answer 3 go to FOLDER/answer_03.
    """
    from sa2va.inference.results import claim_files
    from sa2va.media.source import open_media

    regions, options = parse_regions(region), sampling.options()
    source = standard_input("questions")
    opened = open_media(media)
    claim = claim_files(is_image=opened.is_image)
    former = [path for path in output.glob("answer_*") if path.is_dir()] if output else []
    with staged(output, Claim()):  # check before loading the model that the folder can be written
        for folder in former:
            claim.check(folder, opened.files)
        conversation = choice.load().open(opened)
    for folder in former:
        clear(folder, claim)  # answers of an earlier conversation
    interactive = source.isatty()
    if interactive:
        remark('type a question; "exit" or Ctrl-D ends', quiet)
    for number, question in enumerate(read_questions(interactive), 1):
        try:
            folder = output / f"answer_{number:02d}" if output else None
            question = require_utf8(question, "question")
            answer(conversation, question, regions, options, folder, as_json=as_json, quiet=quiet)
        except ValueError as error:
            if not interactive:
                raise
            remark(f"sa2va: {' '.join(str(error).split())}")  # at the keyboard the question can be asked again
        regions = None


def read_questions(interactive: bool) -> Iterator[str]:
    """Yield the non-blank lines of standard input, until it ends or a line is in LEAVE."""
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except EOFError:
            return
        if line.lower() in LEAVE:
            return
        if line:
            yield line


def answer(
    conversation: "Conversation",
    question: str,
    regions: list[Region] | None,
    options: "Options",
    folder: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Answer one question: stream the text, or print it with its objects and save the masks to `folder`."""
    if not (as_json or folder or regions):
        for piece in conversation.stream(question, options=options):
            say(piece, end="")
        say("")
        return
    from sa2va.metrics.text import plain_text

    prediction = conversation.ask(question, regions=regions, options=options)
    files = prediction.save(folder) if folder and prediction.objects else []
    if as_json:
        print(json.dumps(prediction_to_dict(prediction, files)), flush=True)
    else:
        say(plain_text(prediction.text))
        for line in object_lines(prediction):
            remark(line, quiet)
    if folder and files:
        remark(describe_files(files, folder, folder), quiet)
