"""Describe an image, a video or a marked region: `sa2va caption photo.jpg --grounded -o out/`.

Flow: media -> Predictor.predict -> text; with --grounded, a mask for each phrase of it.
"""

from typing import Annotated

import typer

from sa2va.apps.options import (
    JsonOption,
    MediaArgument,
    ModelChoice,
    OutputOption,
    QuietOption,
    RegionOption,
    parse_regions,
    takes_model,
)
from sa2va.apps.report import describe_files, print_prediction, remark
from sa2va.files.staging import staged


@takes_model
def caption(
    media: MediaArgument,
    grounded: Annotated[bool, typer.Option("--grounded", help="A mask for each phrase of the caption.")] = False,
    output: OutputOption = None,
    region: RegionOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
) -> None:
    """Describe an image, a video, or one region of it."""
    regions = parse_regions(region)
    if regions and (grounded or len(regions) > 1):
        raise ValueError("--region: caption takes one region and gives no masks for it; leave out --grounded, give one")
    from sa2va.data.prompts import CAPTION, GROUNDED_CAPTION, REGION, VIDEO_CAPTION
    from sa2va.inference.results import claim_files
    from sa2va.media.source import open_media

    opened = open_media(media)
    with staged(output, claim_files(is_image=opened.is_image), opened.files) as scratch:
        prompt = CAPTION[0] if opened.is_image else VIDEO_CAPTION[0]
        if grounded:
            prompt = GROUNDED_CAPTION[0]
        if regions:
            prompt = REGION[0].format("region1")
        prediction = choice.load().predict(opened, prompt, regions=regions)
        files = prediction.write(scratch) if scratch else []
        places = [output / path.relative_to(scratch) for path in files] if output and scratch else []
        print_prediction(prediction, as_json=as_json, quiet=quiet, files=places)
        if output and scratch:
            remark(describe_files(files, scratch, output), quiet)
