"""Convert a model folder to another layout or precision: `sa2va convert ByteDance/Sa2VA-4B my-4b --dtype bfloat16`.

Flow: folder, published or ours -> checkpoints/conversion.py -> a new folder that appears only when it is complete.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sa2va.apps.options import QuietOption, parse_path
from sa2va.apps.report import remark
from sa2va.files.staging import new_folder

TargetArgument = Annotated[
    Path,
    typer.Argument(metavar="DST", parser=parse_path, help="Folder to write; must be new or empty.", show_default=False),
]
PickleOption = Annotated[
    bool,
    typer.Option("--unsafe-pickle-ok", help="Also read .bin, .pt and .pth files. Only for files you trust."),
]


class Layout(StrEnum):
    OURS = "ours"
    OFFICIAL = "official"


class Precision(StrEnum):
    KEEP = "keep"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Model folder, published or ours.", show_default=False)],
    target: TargetArgument,
    to: Annotated[Layout, typer.Option("--to", help="Layout of the result.")] = Layout.OURS,
    dtype: Annotated[
        Precision, typer.Option(help="Precision of the result; keep = that of each tensor.")
    ] = Precision.KEEP,
    unsafe_pickle: PickleOption = False,
    quiet: QuietOption = False,
) -> None:
    """Convert a model folder to our layout or the published one, tensor by tensor."""
    with new_folder(target) as scratch:
        import torch
        from tqdm import tqdm

        from sa2va.checkpoints.conversion import open_source, write_folder
        from sa2va.checkpoints.find import find_model

        checkpoint = open_source(find_model(source), unsafe_pickle=unsafe_pickle)
        write_folder(
            checkpoint,
            scratch,
            to_published=to is Layout.OFFICIAL,
            dtype=None if dtype is Precision.KEEP else getattr(torch, dtype.value),
            progress=lambda tensors, count: tqdm(tensors, total=count, unit="tensor", disable=quiet or None),
        )
        size = sum(path.stat().st_size for path in scratch.iterdir())
    remark(f"wrote {size / 1e6:.1f} MB to {target}/ ({to.value} layout)", quiet)
