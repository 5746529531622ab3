"""Load an original SAM 2, which propagates the masks of the fine-tuned one in mode "consistent".

Flow: folder in the native Transformers layout -> Sam2 -> Predictor(original_sam2=...) -> mode "consistent".
Source: SAM 2, arXiv:2408.00714; Sa2VA-i, arXiv:2509.19082, for propagation with the original weights.
"""

from pathlib import Path
from typing import Any

import torch

from sa2va.checkpoints.folder import CONFIG_FILE, has_weights, open_files, read_config
from sa2va.checkpoints.native import load_native, one_line, refuse_problems
from sa2va.checkpoints.preflight import check_sam2_layers
from sa2va.model.sam.catalog import SAM2_CLASSES
from sa2va.model.sam.sam2 import Sam2
from sa2va.model.torch_defaults import plain_defaults

EXAMPLE = "facebook/sam2-hiera-large"


@plain_defaults()
def load_original_sam2(folder: Path, device: torch.device, dtype: torch.dtype) -> Sam2:
    """Load SAM 2, EdgeTAM or the tracker of SAM 3 from a folder in the native Transformers layout.

    Raises:
        ValueError: the folder holds no such model, or one without memory modules.
    """
    described = read_config(folder)
    kind = described.get("model_type")
    variant = SAM2_CLASSES.get(str(kind))
    if variant is None:
        raise ValueError(f"{folder / CONFIG_FILE} describes a {kind!r} model; sam needs SAM 2, as in {EXAMPLE}")
    try:
        if has_weights(folder):
            check_sam2_layers(described, open_files(folder).outlines)
        config = variant.build_config(described)
        native, report = load_native(variant.NATIVE_CLASS, folder, config, dtype)
    except Exception as error:  # a wrong value can raise anything in the library
        raise ValueError(f"{folder} holds no SAM 2 that can be read ({one_line(error)}); take {EXAMPLE}") from error
    _share_positions(native, report["missing_keys"])
    refuse_problems(report, folder, f"sam needs a whole SAM 2, as in {EXAMPLE}")
    with torch.device("meta"):
        sam2 = variant(config.to_dict())
    sam2.native = native
    return sam2.to(device).eval()


def _share_positions(native: Any, missing: set[str]) -> None:
    """Copy the position matrix that older Transformers saved only once, and drop it from the missing names."""
    holders = {
        "prompt_encoder.shared_embedding.positional_embedding": native.prompt_encoder.shared_embedding,
        "shared_image_embedding.positional_embedding": native.shared_image_embedding,
    }
    absent = [name for name in holders if name in missing]
    if len(absent) == 1:
        (given,) = [holder for name, holder in holders.items() if name not in missing]
        holders[absent[0]].positional_embedding.copy_(given.positional_embedding)
        missing.discard(absent[0])
