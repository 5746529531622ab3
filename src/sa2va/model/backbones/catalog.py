"""List the MLLM families; each is a module with the same functions as its neighbours.

Flow: Sa2VAConfig.family -> FAMILIES -> mllm.py and processor.py.
"""

from types import ModuleType

from sa2va.model.backbones import internvl

FAMILIES: dict[str, ModuleType] = {
    "internvl": internvl,
}
