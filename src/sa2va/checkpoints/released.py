"""List the released models: their parts and the terms of their licenses.

Flow: RELEASED[name] -> Released.config -> footprint.py, without a file being fetched.
Source: model cards under https://huggingface.co/ByteDance, and config.json of the models that each was made from.
"""

from dataclasses import dataclass
from typing import Any

from sa2va.checkpoints.published.qwen_vl import MAX_PIXELS, MIN_PIXELS
from sa2va.checkpoints.sam2_sizes import sam2_config
from sa2va.model.config import Sa2VAConfig

LICENSE = "Apache-2.0"  # stated on every model card
# Terms of one part, in addition to the license of the model.
RESEARCH = "Qwen Research: no commercial use of the language part"

# name -> type of the language model; width, inner width, layers, heads, heads of keys and values
LANGUAGE: dict[str, tuple[str, int, int, int, int, int]] = {
    "Qwen2.5-0.5B": ("qwen2", 896, 4_864, 24, 14, 2),
    "Qwen2.5-1.5B": ("qwen2", 1_536, 8_960, 28, 12, 2),
    "Qwen2.5-3B": ("qwen2", 2_048, 11_008, 36, 16, 2),
    "Qwen2.5-7B": ("qwen2", 3_584, 18_944, 28, 28, 4),
    "Qwen2.5-14B": ("qwen2", 5_120, 13_824, 48, 40, 8),
    "InternLM2.5-7B": ("llama", 4_096, 14_336, 32, 32, 8),
    "InternLM2.5-20B": ("llama", 6_144, 16_384, 48, 48, 8),
    "Qwen3-1.7B": ("qwen3", 2_048, 6_144, 28, 16, 8),
    "Qwen3-4B": ("qwen3", 2_560, 9_728, 36, 32, 8),
}
# Vision part -> its native configuration.
VISION: dict[str, dict[str, Any]] = {
    "InternViT-300M": {
        "hidden_size": 1_024,
        "intermediate_size": 4_096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "attention_bias": True,
    },
    "InternViT-6B": {
        "hidden_size": 3_200,
        "intermediate_size": 12_800,
        "num_hidden_layers": 45,
        "num_attention_heads": 25,
        "use_qk_norm": True,
        "norm_type": "rms_norm",
    },
    "Qwen2.5-VL": {
        "depth": 32,
        "hidden_size": 1_280,
        "intermediate_size": 3_420,
        "num_heads": 16,
        "patch_size": 14,
        "spatial_merge_size": 2,
    },
    "Qwen3-VL": {
        "depth": 24,
        "hidden_size": 1_024,
        "intermediate_size": 4_096,
        "num_heads": 16,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "num_position_embeddings": 2_304,
        "deepstack_visual_indexes": [5, 11, 17],
    },
}
INTERN_VIT = {"image_size": [448, 448], "patch_size": [14, 14], "use_mean_pooling": True}
INTERNLM_VOCABULARY, INTERNVL_VOCABULARY, QWEN2_5_VL_VOCABULARY, QWEN3_VL_VOCABULARY = 92_558, 151_679, 151_670, 151_674


@dataclass(frozen=True)
class Released:
    """One published model."""

    family: str
    vision: str  # a key of VISION
    language: str  # a key of LANGUAGE
    vocabulary: int  # tokens
    terms: str = LICENSE

    @property
    def config(self) -> Sa2VAConfig:
        """Configuration with every field that decides the model's size; token ids are left out."""
        kind, width, inner, layers, heads, key_heads = LANGUAGE[self.language]
        text = {
            "model_type": kind,
            "vocab_size": self.vocabulary,
            "hidden_size": width,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": key_heads,
            "tie_word_embeddings": False,
        }
        pixels: dict[str, Any] = {}
        if self.family == "internvl":
            vision = VISION[self.vision] | INTERN_VIT
        else:
            vision = VISION[self.vision] | {"out_hidden_size": width}
            text |= {"model_type": f"{self.family}_text"} | ({"head_dim": 128} if self.family == "qwen3_vl" else {})
            pixels = {"min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS}
        mllm = {"vision_config": vision, "text_config": text, "tie_word_embeddings": False}
        return Sa2VAConfig(family=self.family, mllm=mllm, sam2=sam2_config(), **pixels)


RELEASED: dict[str, Released] = {
    "ByteDance/Sa2VA-1B": Released("internvl", "InternViT-300M", "Qwen2.5-0.5B", INTERNVL_VOCABULARY),
    "ByteDance/Sa2VA-4B": Released(
        "internvl", "InternViT-300M", "Qwen2.5-3B", INTERNVL_VOCABULARY, terms=f"{LICENSE}; {RESEARCH}"
    ),
    "ByteDance/Sa2VA-8B": Released("internvl", "InternViT-300M", "InternLM2.5-7B", INTERNLM_VOCABULARY),
    "ByteDance/Sa2VA-26B": Released("internvl", "InternViT-6B", "InternLM2.5-20B", INTERNLM_VOCABULARY),
    "ByteDance/Sa2VA-InternVL3-2B": Released("internvl", "InternViT-300M", "Qwen2.5-1.5B", INTERNVL_VOCABULARY),
    "ByteDance/Sa2VA-InternVL3-8B": Released("internvl", "InternViT-300M", "Qwen2.5-7B", INTERNVL_VOCABULARY),
    "ByteDance/Sa2VA-InternVL3-14B": Released("internvl", "InternViT-300M", "Qwen2.5-14B", INTERNVL_VOCABULARY),
    "ByteDance/Sa2VA-Qwen2_5-VL-3B": Released(
        "qwen2_5_vl", "Qwen2.5-VL", "Qwen2.5-3B", QWEN2_5_VL_VOCABULARY, terms=f"{LICENSE}; {RESEARCH}"
    ),
    "ByteDance/Sa2VA-Qwen2_5-VL-7B": Released("qwen2_5_vl", "Qwen2.5-VL", "Qwen2.5-7B", QWEN2_5_VL_VOCABULARY),
    "ByteDance/Sa2VA-Qwen3-VL-2B": Released("qwen3_vl", "Qwen3-VL", "Qwen3-1.7B", QWEN3_VL_VOCABULARY),
    "ByteDance/Sa2VA-Qwen3-VL-4B": Released("qwen3_vl", "Qwen3-VL", "Qwen3-4B", QWEN3_VL_VOCABULARY),
}
