"""Name the options that several commands share, and read their values.

Flow: command line -> Annotated types of apps/commands/*.py -> numbers and paths.
"""

from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

MediaArgument = Annotated[
    str, typer.Argument(metavar="MEDIA", help="Image, video, GIF or folder of frames.", show_default=False)
]
ExpressionArgument = Annotated[
    str, typer.Argument(metavar="EXPRESSION", help='What to look for, as in "the red car".', show_default=False)
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write the results here.", show_default=False)
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME", help='"tiny" (embedded), or a folder with a checkpoint.')
]
RegionOption = Annotated[
    list[str] | None,
    typer.Option("--region", metavar="X0,Y0,X1,Y1", help="Mark a box (or X,Y: a point) in px. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only the answer: no remarks, no progress bar.")]

Region = tuple[float, ...]  # (x, y) point or (x0, y0, x1, y1) box, px


def parse_region(text: str) -> Region:
    """Read "x0,y0,x1,y1" (a box) or "x,y" (a point), in px of the picture.

    Raises:
        ValueError: not two or four numbers, or a box without area.
    """
    try:
        region = tuple(float(number) for number in text.split(","))
    except ValueError:
        region = ()
    if len(region) not in (2, 4) or not all(map(isfinite, region)):
        raise ValueError(f"--region {text!r}: expected x0,y0,x1,y1 (a box) or x,y (a point) in px, as in 10,20,200,180")
    if len(region) == 4 and not (region[0] < region[2] and region[1] < region[3]):
        raise ValueError(f"--region {text!r}: an empty box; expected x0 < x1 and y0 < y1")
    return region


def parse_regions(texts: list[str] | None) -> list[Region] | None:
    return [parse_region(text) for text in texts] if texts else None


def require_text(text: str, name: str) -> str:
    """Strip a text and refuse an empty one.

    Raises:
        ValueError: there is nothing but white space.
    """
    if not text.strip():
        raise ValueError(f"{name} is empty; write what to look for, as in 'the red car'")
    return text.strip()
