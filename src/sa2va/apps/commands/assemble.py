"""Assemble a new model: `sa2va assemble --mllm OpenGVLab/InternVL3-2B-hf --sam facebook/sam2.1-hiera-large DST`.

Flow: MLLM, SAM 2 -> checkpoints/assembly.py -> a new model folder that appears only when it is complete.
"""

from pathlib import Path
from typing import Annotated

import typer

from sa2va.apps.commands.convert import PickleOption, Precision, TargetArgument
from sa2va.apps.options import QuietOption
from sa2va.apps.report import remark
from sa2va.files.staging import new_folder


def assemble(
    target: TargetArgument,
    mllm: Annotated[
        str,
        typer.Option(metavar="NAME", help="Transformers MLLM: folder or hub name.", show_default=False),
    ],
    sam: Annotated[
        str,
        typer.Option(metavar="NAME", help="SAM 2: folder, hub name, or a raw .pt file.", show_default=False),
    ],
    dtype: Annotated[
        Precision, typer.Option(help="Precision of the result; keep = that of the MLLM.")
    ] = Precision.KEEP,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the projector and the new tokens' embeddings.")] = 0,
    unsafe_pickle: PickleOption = False,
    quiet: QuietOption = False,
) -> None:
    """Assemble an untrained model from an MLLM and a SAM 2; it answers questions, masks need training."""
    with new_folder(target) as scratch:
        import torch

        from sa2va.checkpoints.assembly import assemble as build
        from sa2va.checkpoints.find import find_model
        from sa2va.checkpoints.folder import save_checkpoint

        sam_path = Path(sam) if Path(sam).is_file() else find_model(sam)
        wanted = None if dtype is Precision.KEEP else getattr(torch, dtype.value)
        model, tokenizer = build(find_model(mllm), sam_path, dtype=wanted, seed=seed, unsafe_pickle=unsafe_pickle)
        save_checkpoint(model, tokenizer, scratch, next(model.parameters()).dtype)
        count = sum(parameter.numel() for parameter in model.parameters())
    remark(f"wrote a {model.config.family} model of {count / 1e6:.1f} M parameters to {target}/", quiet)
