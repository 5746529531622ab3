"""Segment what an expression refers to: `sa2va segment photo.jpg "the red car" -o out/`.

Flow: media, expression -> Predictor.predict -> text; overlay PNG, one mask PNG per object, COCO JSON.
"""

from typing import Annotated

import typer

from sa2va.apps.options import (
    ExpressionArgument,
    JsonOption,
    MediaArgument,
    ModelChoice,
    OutputOption,
    QuietOption,
    RegionOption,
    parse_regions,
    require_expression,
    require_finite,
    takes_model,
)
from sa2va.apps.report import describe_files, print_prediction, remark
from sa2va.files.staging import staged


@takes_model
def segment(
    media: MediaArgument,
    expression: ExpressionArgument,
    output: OutputOption = None,
    region: RegionOption = None,
    max_objects: Annotated[int, typer.Option(min=1, help="Maximum number of objects.")] = 64,
    threshold: Annotated[float, typer.Option(callback=require_finite, help="Mask threshold, a logit.")] = 0.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    choice: ModelChoice,
) -> None:
    """Segment what an expression refers to in an image or a video.

    An object that is not there gets no mask, and the answer says so.
    """
    expression = require_expression(expression)
    regions = parse_regions(region)
    from sa2va.data.prompts import SEGMENT
    from sa2va.inference.requests import Options
    from sa2va.inference.results import claim_files
    from sa2va.media.source import open_media

    opened = open_media(media)  # before the model is loaded: a damaged file fails at once
    with staged(output, claim_files(is_image=opened.is_image), opened.files) as scratch:
        options = Options(max_objects=max_objects, mask_threshold=threshold)
        predictor = choice.load()
        prediction = predictor.predict(opened, SEGMENT[0].format(expression), regions=regions, options=options)
        files = prediction.write(scratch) if scratch else []
        places = [output / path.relative_to(scratch) for path in files] if output and scratch else []
        print_prediction(prediction, as_json=as_json, quiet=quiet, files=places)
        if not prediction.objects:
            remark(f"no mask: the model finds no {expression!r}", quiet)
        if output and scratch:
            remark(describe_files(files, scratch, output), quiet)
        elif not as_json:
            remark("nothing was written; add -o FOLDER for overlay, masks and COCO JSON", quiet)
