"""Choose where a model runs and in which precision.

Flow: what a user asks for ("auto" as well), this machine -> torch.device, torch.dtype.
"""

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" is the best of this machine.

    Raises:
        ValueError: the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    available = list_devices()
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device {name!r:.60} is unknown; use auto, {', '.join(available)}") from error
    # A type without a number is the first of its kind; the CPU and a Mac's GPU are one each, whatever the number.
    whole = f"{device.type}:{device.index or 0}" if device.type == "cuda" else str(device).removesuffix(":0")
    if whole not in available:
        raise ValueError(f"device {name!r:.60} is not available on this machine; use auto, {', '.join(available)}")
    return device


def list_devices() -> list[str]:
    """Return the names of the devices of this machine that models run on, the fastest first."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Turn "auto" into float32 on a CPU, bfloat16 on a GPU that has it, and else float16.

    Raises:
        ValueError: the name is unknown.
    """
    if dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float16
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; use auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether a device is a CPU that multiplies bfloat16 itself; others emulate it, many times slower."""
    if device.type != "cpu":
        return False
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
