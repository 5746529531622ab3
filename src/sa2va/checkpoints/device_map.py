"""Dispatch an MLLM that does not fit one GPU over several GPUs and RAM.

Flow: Need, places -> budgets -> plan_layers -> device map -> spread; SAM 2 and the projector stay on the first GPU.
Source: big-model inference of accelerate; its plan fills one device after the other, in the order of the layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sa2va.checkpoints.device import Place
from sa2va.checkpoints.footprint import Need
from sa2va.model.sa2va import Sa2VA

Plan = dict[str, int | str]  # name of a module -> index of a GPU, or "cpu"


def budgets(need: Need, places: Sequence[Place]) -> dict[int | str, int]:
    """Return the bytes of MLLM weights that each GPU and RAM may hold.

    Every GPU reserves memory for activations, the first one also for SAM 2 and the KV cache.
    """
    room: dict[int | str, int] = {}
    for place in places:
        if place.device.startswith("cuda:"):
            index = int(place.device.removeprefix("cuda:"))
            room[index] = max(0, place.usable - need.working - (0 if room else need.sam2 + need.cache))
        elif place.device == "cpu":
            room["cpu"] = place.usable
    return room


def plan_layers(native: nn.Module, dtype: torch.dtype, room: Mapping[int | str, int]) -> Plan:
    """Assign each module of an MLLM to a device; a layer is never split.

    Args:
        native: the model; its weights may be on the meta device.
        dtype: of the weights once they are loaded.
        room: bytes of each device, fastest first.

    Raises:
        ValueError: accelerate is not installed, or all devices together have too little memory.
    """
    accelerate = import_accelerate()
    lists = [module for module in native.modules() if isinstance(module, nn.ModuleList)]
    layers = sorted({type(layer).__name__ for each in lists for layer in each})
    plan = accelerate.infer_auto_device_map(native, dict(room), no_split_module_classes=layers, dtype=dtype)
    if "disk" in plan.values():
        parts = ", ".join(f"{size / 2**30:.1f} GiB on {device}" for device, size in room.items())
        raise ValueError(
            f"the model does not fit what is free ({parts}); use quantize='int8', 'int4' or a smaller model"
        )
    return plan


def spread(model: Sa2VA, plan: Plan, first: torch.device) -> None:
    """Dispatch the MLLM by its device map, and move the rest of the model to `first`."""
    accelerate = import_accelerate()
    # We call submodules of the MLLM directly, so each needs hooks of its own, also on the CPU.
    model.mllm.native = accelerate.dispatch_model(model.mllm.native, device_map=plan, force_hooks=True)
    model.sam2.to(first)
    model.projector.to(first)
    if model.mllm.temporal is not None:
        model.mllm.temporal.to(first)


def import_accelerate() -> Any:
    """Import accelerate.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import accelerate
    except ImportError as error:
        raise ValueError("the model does not fit one GPU; to spread it: pip install 'sa2va[spread]'") from error
    return accelerate
