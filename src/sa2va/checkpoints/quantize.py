"""Quantize the linear layers of the MLLM to 8 or 4 bits, for machines with little memory.

Flow: a model on the CPU -> quantize_mllm(model, "int4", device) -> the same model, quantized and moved to the device.
Source: LLM.int8(), arXiv:2208.07339; QLoRA, arXiv:2305.14314 (NF4 with double quantization); both as implemented
    in bitsandbytes, the only library of several tried that runs both on a CPU and on CUDA.
"""

import logging
from typing import Any

import torch
from torch import nn

from sa2va.model.families.catalog import find_family
from sa2va.model.sa2va import Sa2VA

KINDS = ("int8", "int4")
DEVICES = ("cpu", "cuda")
OUTLIER = 6.0  # int8: input columns beyond this are multiplied in 16 bits, as in the paper


def import_quantizer(kind: str, device: torch.device) -> Any:
    """Check that a quantization runs on a device, and import its library.

    Raises:
        ValueError: the kind is unknown, the device has no kernels for it or the library is not installed.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown quantize {kind!r}; use {', '.join(KINDS)} or leave it out")
    if device.type not in DEVICES:
        raise ValueError(f"quantize={kind!r} runs on {' and '.join(DEVICES)}, not on {device.type}; leave it out")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of every cast to float16
    try:
        import bitsandbytes
    except ImportError as error:
        raise ValueError(f"quantize={kind!r} needs an extra; run: pip install 'sa2va[quantize]'") from error
    return bitsandbytes


def quantize_mllm(model: Sa2VA, kind: str, device: torch.device) -> None:
    """Quantize the MLLM's linear weights, layer by layer, and move the model to a device.

    With "int4" the language model gets 4 bits and the vision tower 8: the tower is comparatively small, and no later
    layer can repair its errors. The output layer, embeddings, [SEG] projector and SAM 2 keep their precision.

    Args:
        model: on the CPU, in the precision that it will compute in.
        kind: "int8" or "int4".
        device: target; it stores the linear weights in quantized form only.
    """
    library = import_quantizer(kind, device)
    native = model.mllm.native
    language = find_family(model.config.family).language_model(native)
    in_language = {id(module) for module in language.modules()}
    for parent in list(native.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer is not native.get_output_embeddings():
                bits = 4 if kind == "int4" and id(layer) in in_language else 8
                setattr(parent, name, _pack(layer, bits, library).to(device))
    model.to(device)


def _pack(layer: nn.Linear, bits: int, library: Any) -> nn.Linear:
    """Return a layer that quantizes the weights of `layer` when it is moved to its device."""
    shape = (layer.in_features, layer.out_features)
    weight, options = layer.weight.data, {"bias": layer.bias is not None, "device": "meta"}
    if bits == 4:
        packed = library.nn.Linear4bit(*shape, compute_dtype=weight.dtype, quant_type="nf4", **options)
        packed.weight = library.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", module=packed)
    else:
        packed = library.nn.Linear8bitLt(*shape, has_fp16_weights=False, threshold=OUTLIER, **options)
        packed.weight = library.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    packed.bias = layer.bias
    return packed.eval()
