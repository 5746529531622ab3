"""Add LoRA adapters to the linear layers of the language model, and merge them.

Flow: Sa2VA -> add_lora -> a training stage -> merge_lora, or PeftModel.save_pretrained.
Source: LoRA, arXiv:2106.09685, as implemented in peft.
"""

from typing import Any

from torch import nn

from sa2va.model.sa2va import Sa2VA


def add_lora(model: Sa2VA, rank: int, dropout: float = 0.0) -> Any:
    """Add LoRA weights to every linear layer of the text model, in place; freeze all other weights.

    Args:
        model: model of any family; its language model head gets no adapter.
        rank: rank of the adapters; alpha is 2 * rank, as in the paper.
        dropout: dropout before the adapters, 0..1.

    Returns:
        The PeftModel around the native MLLM, for `save_pretrained`.

    Raises:
        ValueError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ValueError("a LoRA adapter needs an extra; run: pip install 'sa2va[train]'") from error
    linear = {id(part) for part in model.mllm.text_model.modules() if isinstance(part, nn.Linear)}
    layers = [name for name, part in model.mllm.native.named_modules() if id(part) in linear]
    model.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=layers)
    wrapped = get_peft_model(model.mllm.native, config)
    model.mllm.native = wrapped.base_model.model
    return wrapped


def merge_lora(model: Sa2VA) -> None:
    """Merge the LoRA weights into their layers and remove the adapters, in place.

    Raises:
        ValueError: a merged weight is not finite.
    """
    for parent in list(model.mllm.native.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "lora_A"):
                layer: Any = child
                layer.merge(safe_merge=True)
                setattr(parent, name, layer.get_base_layer())
