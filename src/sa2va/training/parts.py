"""Choose how each part of Sa2VA is trained: frozen, with LoRA weights, or fully.

Flow: PartsConfig -> choose_parts(model) -> parameters that require a gradient -> lora.save_adapter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from torch import nn

from sa2va.model.losses import LossConfig
from sa2va.model.sa2va import Sa2VA
from sa2va.training.lora import add_lora

Way = Literal["frozen", "lora", "full"]


@dataclass(frozen=True, kw_only=True)
class PartsConfig:
    """How each part of the model is trained: `frozen`, `lora` or `full`."""

    text_model: Way = "lora"  # without its embeddings and head
    embeddings: Literal["frozen", "full"] = "frozen"  # input embeddings and language model head
    vision_tower: Way = "frozen"
    vision_projector: Way = "lora"
    projector: Way = "full"  # from [SEG] states to SAM 2 prompts
    sam_encoder: Way = "lora"
    mask_decoder: Way = "full"

    def __post_init__(self) -> None:
        if "lora" not in self.ways.values():
            raise ValueError("parts: an adapter needs LoRA weights in at least one part; set parts.text_model=lora")

    @property
    def ways(self) -> dict[str, Way]:
        """The way of each part, by its name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def find_parts(model: Sa2VA) -> dict[str, list[nn.Module]]:
    """Return the modules of each part, by its name in PartsConfig."""
    mllm, sam2 = model.mllm, model.sam2.native
    return {
        "text_model": [mllm.text_model],
        "embeddings": [mllm.native.get_input_embeddings(), mllm.native.get_output_embeddings()],
        "vision_tower": [mllm.vision_tower],
        "vision_projector": [mllm.vision_projector],
        "projector": [model.projector],
        "sam_encoder": [sam2.vision_encoder],
        "mask_decoder": [sam2.mask_decoder],
    }


def choose_parts(
    model: Sa2VA, config: PartsConfig, losses: LossConfig, *, rank: int, alpha: int | None = None,
    dropout: float = 0.0, targets: Sequence[str] = (),
) -> None:  # fmt: skip
    """Freeze, extend with LoRA weights or unfreeze each part of a model, in place.

    Args:
        model: any model without LoRA weights.
        config: how each part is trained.
        rank, alpha, dropout, targets: of the LoRA weights, see `add_lora`.
        losses: a head of the mask decoder without a loss stays frozen, since only weight decay would change it.
    """
    parts = find_parts(model)
    chosen = [module for name, way in config.ways.items() if way == "lora" for module in parts[name]]
    add_lora(model, rank, alpha=alpha, dropout=dropout, targets=targets, parts=chosen)
    for name, way in config.ways.items():
        for module in parts[name]:
            if way == "full" or name == "embeddings":  # the embeddings lie within the text model
                module.requires_grad_(way == "full")
    decoder = model.sam2.native.mask_decoder
    for head, weight in ((decoder.iou_prediction_head, losses.iou), (decoder.pred_obj_score_head, losses.presence)):
        if not weight:
            head.requires_grad_(False)
