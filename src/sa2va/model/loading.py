"""Find a model, choose where and in which precision it runs, and load it.

Flow: name -> folder -> checkpoint.py -> Predictor on a device.
"""

from pathlib import Path

import torch

from sa2va.model.checkpoint import load_checkpoint
from sa2va.model.predictor import Predictor

EMBEDDED = {"tiny": Path(__file__).parents[1] / "weights" / "tiny"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_model(name: str) -> Path:
    """Return the folder of a model.

    Raises:
        ValueError: there is neither an embedded model nor a folder of that name.
    """
    folder = EMBEDDED.get(name, Path(name))
    if not folder.is_dir():
        raise ValueError(f"no model {name!r}; use {', '.join(EMBEDDED)} or a model folder on this machine")
    return folder


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" is the best of this machine.

    Raises:
        ValueError: the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; use auto, cpu, cuda or mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} is not available on this machine; use auto or cpu")
    return device


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Turn "auto" into float32 on a CPU, bfloat16 or else float16 on a GPU."""
    if dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; use auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def load(name: str = "tiny", *, device: str = "auto", dtype: str = "auto") -> Predictor:
    """Load a model.

    Args:
        name: "tiny", the embedded model, or a model folder.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto", "float32", "bfloat16", "float16".

    Raises:
        ValueError: there is no such model, its files are damaged, or device or dtype is unknown.
    """
    where = choose_device(device)
    return Predictor(*load_checkpoint(find_model(name), where, choose_dtype(dtype, where)))
