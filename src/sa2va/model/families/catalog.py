"""List the MLLM families.

Flow: Sa2VAConfig.family -> find_family -> mllm.py and processor.py.
"""

from sa2va.model.families.internvl import InternVL
from sa2va.model.families.llava import Llava
from sa2va.model.families.protocol import Family
from sa2va.model.families.qwen2_5_vl import Qwen2_5VL
from sa2va.model.families.qwen3_vl import Qwen3VL

FAMILIES: dict[str, Family] = {
    "internvl": InternVL(),
    "qwen2_5_vl": Qwen2_5VL(),
    "qwen3_vl": Qwen3VL(),
    "llava": Llava(),
}


def find_family(name: str) -> Family:
    """Return the family called `name`.

    Raises:
        ValueError: unknown name.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown model family {name!r}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]
