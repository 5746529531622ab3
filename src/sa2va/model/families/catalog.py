"""List the MLLM families; each is a module with the same names as its neighbours.

Flow: Sa2VAConfig.family -> find_family -> mllm.py and processor.py.

A family has IMAGE_TOKEN, PICTURE_JOINT, TAKES_REGIONS, LAYER_NAMES, PIXEL_MEAN, PIXEL_STD; build_mllm, language_model,
read_picture, image_block, encode_images, positions, run_text, logits; config_from_official, config_to_official,
key_rules.
"""

from types import ModuleType

from sa2va.model.families import internvl, llava, qwen2_5_vl, qwen3_vl

FAMILIES: dict[str, ModuleType] = {
    "internvl": internvl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "llava": llava,
}


def find_family(name: str) -> ModuleType:
    """Return the family called `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown model family {name!r}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]
