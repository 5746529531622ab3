"""List the SAM 2 variants by the model_type of their configuration.

Flow: configuration -> build_sam2 -> sa2va.py, checkpoints/original_sam2.py.
"""

from typing import Any

from sa2va.model.sam.edgetam import EdgeTam
from sa2va.model.sam.sam2 import Sam2
from sa2va.model.sam.sam3 import Sam3Tracker

DEFAULT_TYPE = "sam2_video"
SAM2_CLASSES: dict[str, type[Sam2]] = {
    DEFAULT_TYPE: Sam2,
    "sam2": Sam2,
    "edgetam_video": EdgeTam,
    "sam3_tracker_video": Sam3Tracker,
}


def build_sam2(config: dict[str, Any]) -> Sam2:
    """Build a variant with random weights.

    Raises:
        ValueError: the model_type is not in SAM2_CLASSES.
    """
    kind = config.get("model_type", DEFAULT_TYPE)
    if kind not in SAM2_CLASSES:
        raise ValueError(f"model_type {kind!r} of sam2 is unknown; use one of {', '.join(SAM2_CLASSES)}")
    return SAM2_CLASSES[kind](config)
