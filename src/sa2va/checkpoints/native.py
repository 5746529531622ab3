"""Load models saved by Transformers, and compute their non-persistent buffers.

Flow: folder -> load_native -> native model and report -> refuse_problems; empty model -> compute_buffers.
"""

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging


def one_line(error: Exception) -> str:
    """Return the message of an error in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]


@contextmanager
def silent_transformers() -> Generator[None]:
    """Silence load reports and progress bars of Transformers; `refuse_problems` raises instead."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_native(kind: Any, folder: Path, config: Any, dtype: torch.dtype | str) -> tuple[Any, dict[str, Any]]:
    """Load a folder with `kind.from_pretrained`, from safetensors only.

    Returns:
        The model and the library's report, for `refuse_problems`.
    """
    with silent_transformers():
        return kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )


def refuse_problems(report: Mapping[str, Collection[Any]], folder: Path, advice: str) -> None:
    """Refuse a model that was not loaded completely.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape.
    """
    for problem in ("missing", "mismatched", "unexpected"):
        for name in sorted(map(str, report[f"{problem}_keys"])):
            raise ValueError(f"{folder}: tensor {name} is {problem}; {advice}")


def compute_buffers(native: PreTrainedModel, device: torch.device) -> None:
    """Compute the non-persistent buffers, as the native class does on construction."""
    for name, buffer in list(native.named_non_persistent_buffers()):
        parent, _, leaf = name.rpartition(".")
        native.get_submodule(parent)._buffers[leaf] = torch.empty_like(buffer, device=device)
    for value in native.state_dict(keep_vars=True).values():
        value._is_hf_initialized = True  # initialize_weights() skips tensors with this flag
    native.initialize_weights()
