"""Save memory in training: recompute activations in the backward pass, keep frozen matrices in half precision.

Flow: SupervisedStage -> checkpoint_layers, halve_frozen, before the optimizer is built.
Source: gradient checkpointing, arXiv:1604.06174, in the layers of Transformers, by torch.utils.checkpoint.
"""

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_layers(model: nn.Module, *, enabled: bool) -> int:
    """Switch gradient checkpointing of every layer of the model on or off: language model, image encoders, SAM 2.

    A layer without gradients, such as one of a frozen encoder, runs once either way. The non-reentrant variant is
    used: inputs need no gradient, and random numbers such as those of dropout are the same in both passes.

    Returns:
        The number of layers.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.gradient_checkpointing = enabled
        setattr(layer, "_gradient_checkpointing_func", partial(checkpoint, use_reentrant=False))  # noqa: B010
    return len(layers)


def halve_frozen(model: nn.Module) -> int:
    """Keep the frozen matrices of linear layers and convolutions in bfloat16, in place.

    Under bfloat16 autocast the products stay the same, since autocast rounds these matrices in every step anyway.

    Returns:
        The number of bytes saved.
    """
    saved = 0
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and not layer.weight.requires_grad:
            if layer.weight.dtype == torch.float32:
                saved += 2 * layer.weight.numel()
                layer.weight.data = layer.weight.data.bfloat16()
    return saved
