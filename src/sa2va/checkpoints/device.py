"""Choose the device, precision and batch of a model, and list the memory of this machine.

Flow: requested names or "auto", this machine -> torch.device, torch.dtype; GPUs and RAM -> Places.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30
SHARE = 0.9  # usable share of free memory; the rest is for fragmentation and buffers of libraries
SMALL_MODEL = 100_000_000  # parameters; below, products are too small to gain from bfloat16 on a CPU
GPU_FRAMES = 5  # the key frames of the released models
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" is the fastest one of this machine.

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
    # "cuda" means "cuda:0". CPU and MPS have a single device, so "cpu:0" means "cpu".
    whole = f"{device.type}:{device.index or 0}" if device.type == "cuda" else str(device).removesuffix(":0")
    if whole not in available:
        raise ValueError(f"device {name!r:.60} is not available on this machine; use auto, {', '.join(available)}")
    return device


def list_devices() -> list[str]:
    """List the devices of this machine that models run on, fastest first."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def check_dtype(dtype: str) -> None:
    """Check the name of a precision.

    Raises:
        ValueError: the name is unknown.
    """
    if dtype != "auto" and dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; use auto, {', '.join(DTYPES)}")


def choose_dtype(dtype: str, device: torch.device, num_parameters: int) -> torch.dtype:
    """Return a torch dtype; "auto" depends on the device and, on a CPU, on the size of the model.

    "auto" is bfloat16 on a GPU that supports it, else float16; for a CPU see `choose_cpu_dtype`.
    """
    check_dtype(dtype)
    if dtype != "auto":
        return DTYPES[dtype]
    if device.type == "cpu":
        return choose_cpu_dtype(num_parameters)[0]
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bfloat16 else torch.float16


def choose_cpu_dtype(num_parameters: int) -> tuple[torch.dtype, str]:
    """Return the precision "auto" of a CPU with the reason: bfloat16 where it is faster, else float32."""
    if not multiplies_bfloat16(torch.device("cpu")):
        return torch.float32, "this processor has no bfloat16 products and would emulate them"
    if num_parameters < SMALL_MODEL:
        return torch.float32, "bfloat16 is no faster for so small a model"
    return torch.bfloat16, "this processor multiplies bfloat16 natively"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device is a CPU with native bfloat16 products; other CPUs emulate them slowly."""
    if device.type != "cpu":
        return False
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def frames_at_once(device: torch.device) -> int:
    """Return the number of frames that SAM 2's image encoder takes at once where several are known.

    A single frame keeps a CPU busy, and more of them only take memory. A GPU is kept busy by several.
    """
    return 1 if device.type == "cpu" else GPU_FRAMES


@dataclass(frozen=True)
class Place:
    """Memory of one device, in bytes."""

    device: str  # "cuda:0", "mps", "cpu"
    name: str
    total: int
    free: int

    @property
    def usable(self) -> int:
        return int(self.free * SHARE)


def list_places() -> list[Place]:
    """List the memory of each device, fastest first; MPS shares the RAM of the CPU."""
    places = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        places.append(Place(f"cuda:{index}", torch.cuda.get_device_name(index), total, free))
    total, free = read_ram()
    if torch.backends.mps.is_available():
        places.append(Place("mps", "Apple GPU", total, free))
    return [*places, Place("cpu", f"{os.cpu_count()} CPU cores", total, free)]


def read_ram(root: Path = Path("/")) -> tuple[int, int]:
    """Return total and free RAM in bytes, of the container if there is one; 0 if unknown."""
    if not hasattr(os, "sysconf"):
        return 0, 0
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = total
    report = root / "proc/meminfo"
    if report.is_file():
        lines = dict(line.split(":", 1) for line in report.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    group = root / "sys/fs/cgroup"
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no container, or one without a limit
        return total, free
    return min(total, limit), min(free, limit - used)
