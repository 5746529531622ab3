"""Drive the InternVL family: pixels, prompt text, native model, published layout.

Flow: picture -> tiles -> Picture -> encode_images; TextInput -> run_text -> states -> logits.
Source: InternVL2.5, arXiv:2412.05271 (dynamic tiling, 256 tokens a tile); Sa2VA, arXiv:2501.04001 (frames of a
    clip are single tiles, joined by newlines).
Shapes: P tiles, s side of a tile in px, H W picture, B samples, L tokens, D width, V visual tokens, Y vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import DynamicCache, InternVLConfig, InternVLForConditionalGeneration

from sa2va.checkpoints.key_map import Rule
from sa2va.checkpoints.rope import rope_to_native, rope_to_official
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families.protocol import Picture, TextInput, VisualTokens, call_text_model, side_of
from sa2va.model.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise

IMAGE_START, IMAGE_TOKEN, IMAGE_END = "<img>", "<IMG_CONTEXT>", "</img>"
BASE_TOKENS = (IMAGE_START, IMAGE_END, IMAGE_TOKEN, "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
PICTURE_JOINT = "\n"  # between the pictures of a prompt
TAKES_REGIONS = True
PIXEL_MEAN, PIXEL_STD = IMAGENET_MEAN, IMAGENET_STD
LAYER_NAMES = {
    ("text_config", "num_hidden_layers"): "model.language_model.layers.",
    ("vision_config", "num_hidden_layers"): "model.vision_tower.encoder.layer.",
}

# Architecture of the published text model -> its own name and the native one's. InternLM2 is a Llama whose query,
# key and value rows are stored in one tensor.
_TEXT_MODELS = {
    "Qwen2ForCausalLM": ("qwen2", "qwen2"),
    "Qwen3ForCausalLM": ("qwen3", "qwen3"),
    "InternLM2ForCausalLM": ("internlm2", "llama"),
    "LlamaForCausalLM": ("llama", "llama"),
    "Phi3ForCausalLM": ("phi3", "phi3"),
}
_TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "original_max_position_embeddings",
    "rms_norm_eps", "initializer_range", "attention_bias", "use_sliding_window", "sliding_window",
    "max_window_layers",
)  # fmt: skip
_TOKEN_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")
_VISION_KEYS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "hidden_act": "hidden_act",
    "norm_type": "norm_type",
    "layer_norm_eps": "layer_norm_eps",
    "qkv_bias": "attention_bias",
    "qk_normalization": "use_qk_norm",
}
MAX_TILES = 12  # the released inference takes this number whatever its config says


# ---- the native model


def build_mllm(config: dict[str, Any]) -> InternVLForConditionalGeneration:
    """Build the native model with random weights from the `mllm` part of a Sa2VA config."""
    return InternVLForConditionalGeneration(InternVLConfig(**config))


def language_model(mllm: InternVLForConditionalGeneration) -> nn.Module:
    """Return the text model, without its head."""
    return mllm.model.language_model


def encode_images(mllm: InternVLForConditionalGeneration, pixel_values: Tensor, grids: Tensor) -> VisualTokens:
    """Return the visual tokens of the tiles (P, 3, s, s); their grid is always the same."""
    output = mllm.model.get_image_features(pixel_values=pixel_values, return_dict=True)
    return VisualTokens(output.pooler_output.flatten(0, 1))  # (P, tokens, D) -> (V, D)


def positions(
    mllm: InternVLForConditionalGeneration, input_ids: Tensor, attention_mask: Tensor, grids: Tensor
) -> Tensor:
    """Count the tokens of each row, padding aside: (B, L)."""
    return (attention_mask.cumsum(1) - 1).clamp(min=0)


def run_text(mllm: InternVLForConditionalGeneration, inputs: TextInput, cache: DynamicCache | None) -> Tensor:
    """Return the states (B, L, D) that [SEG] is read from: after the final norm."""
    return call_text_model(language_model(mllm), inputs, cache)


def logits(mllm: InternVLForConditionalGeneration, states: Tensor) -> Tensor:
    return mllm.lm_head(states)  # (..., D) -> (..., Y)


# ---- pixels and text


def choose_grid(width: int, height: int, max_tiles: int, tile_size: int) -> tuple[int, int]:
    """Return (columns, rows) whose aspect ratio is closest to the picture's.

    On a tie the larger grid wins only where the picture has more than half of that grid's pixels.
    """
    sides = range(1, max_tiles + 1)
    grids = sorted({(i, j) for i in sides for j in sides if i * j <= max_tiles}, key=lambda g: (g[0] * g[1], g))
    best, best_gap = (1, 1), float("inf")
    for columns, rows in grids:
        gap = abs(width / height - columns / rows)
        fills = width * height > 0.5 * tile_size**2 * columns * rows
        if gap < best_gap or (gap == best_gap and fills):
            best, best_gap = (columns, rows), gap
    return best


def split_tiles(picture: NDArray[np.uint8], tile_size: int, max_tiles: int) -> NDArray[np.uint8]:
    """Cut a picture into tiles, a thumbnail of the whole last where there is more than one.

    Args:
        picture: (H, W, 3) RGB.
        tile_size: s, px.
        max_tiles: 1 squeezes the whole picture into one tile, as for the frames of a clip.

    Returns:
        uint8 (P, s, s, 3).
    """
    image = Image.fromarray(picture)
    columns, rows = choose_grid(image.width, image.height, max_tiles, tile_size)
    # PIL's own bicubic: the tensor resize of the stock processor gives other pixels than the training had.
    resized = np.asarray(image.resize((tile_size * columns, tile_size * rows), Image.Resampling.BICUBIC))
    tiles = [
        resized[row * tile_size : (row + 1) * tile_size, column * tile_size : (column + 1) * tile_size]
        for row in range(rows)
        for column in range(columns)
    ]
    if len(tiles) > 1:
        tiles.append(np.asarray(image.resize((tile_size, tile_size), Image.Resampling.BICUBIC)))
    return np.stack(tiles)


def read_picture(picture: NDArray[np.uint8], config: Sa2VAConfig, *, is_frame: bool) -> Picture:
    """Prepare a picture (H, W, 3), or one frame of a clip, which is a single tile.

    The released code takes a tile whose normalised pixels sum to exactly 0 for padding, and then lacks its visual
    tokens; here such a tile counts like any other.
    """
    tiles = split_tiles(picture, config.tile_size, 1 if is_frame else config.max_tiles)
    return Picture(normalise(tiles, PIXEL_MEAN, PIXEL_STD), len(tiles) * config.tokens_per_tile)


def image_block(num_tokens: int) -> str:
    """Return the prompt text that stands for one picture or frame."""
    return IMAGE_START + IMAGE_TOKEN * num_tokens + IMAGE_END


# ---- the published layout


def _architecture(text: dict[str, Any]) -> str:
    """Name the published architecture of a native text configuration."""
    if text.get("architectures"):
        return text["architectures"][0]
    return next(name for name, (_, native) in _TEXT_MODELS.items() if native == text["model_type"])


def config_from_official(
    official: dict[str, Any], tokenizer_ids: dict[str, int], chat_template: str = ""
) -> dict[str, Any]:
    """Return the fields of a Sa2VAConfig, `family` and `sam2` aside, from a published config.json.

    Args:
        official: the file's content.
        tokenizer_ids: token -> id of its tokenizer.
        chat_template: of its tokenizer; the released code of this family has templates of its own.

    Raises:
        ValueError: the text model or a setting is one that no published model has.
    """
    llm, vision = official["llm_config"], official["vision_config"]
    architecture = (llm.get("architectures") or [None])[0]
    if architecture not in _TEXT_MODELS:
        raise ValueError(f"config.json: language model {architecture!r} is unknown; known: {', '.join(_TEXT_MODELS)}")
    if official.get("ps_version", "v2") != "v2":
        raise ValueError(f"config.json: ps_version {official['ps_version']!r} is not supported; expected 'v2'")
    if IMAGE_TOKEN not in tokenizer_ids:
        raise ValueError(f"the tokenizer has no {IMAGE_TOKEN} token; copy all tokenizer files of the model")
    text = {key: llm[key] for key in _TEXT_KEYS if llm.get(key) is not None}
    text |= {key: llm[key] for key in _TOKEN_KEYS if key in llm}
    if architecture == "InternLM2ForCausalLM":
        text["attention_bias"] = bool(llm.get("bias", False))
    text |= {"model_type": _TEXT_MODELS[architecture][1], "architectures": [architecture]}
    text |= {"rope_parameters": rope_to_native(llm), "tie_word_embeddings": False}
    tower = {native: vision[key] for key, native in _VISION_KEYS.items() if key in vision}
    # Without mean pooling the native tower would end in a norm that the published one does not have.
    tower |= {"use_absolute_position_embeddings": True, "use_mean_pooling": True}
    ratio = official.get("downsample_ratio", 0.5)
    tile_size = official.get("force_image_size") or vision["image_size"]
    return {
        "mllm": {
            "vision_config": tower,
            "text_config": text,
            "image_token_id": tokenizer_ids[IMAGE_TOKEN],
            "downsample_ratio": ratio,
            "vision_feature_layer": official.get("select_layer", -1),
            "tie_word_embeddings": False,
        },
        "template": official["template"].replace("-", "_"),
        "question_joint": "",
        "tile_size": tile_size,
        "tokens_per_tile": int((tile_size // side_of(vision["patch_size"])) ** 2 * ratio**2),
        "max_tiles": MAX_TILES,
        "keyframes": "first",
    }


def config_to_official(config: Sa2VAConfig) -> dict[str, Any]:
    """Return the published config.json of a model, its SAM 2 part aside."""
    text, tower = config.mllm["text_config"], config.mllm["vision_config"]
    architecture = _architecture(text)
    llm = {key: text[key] for key in (*_TEXT_KEYS, *_TOKEN_KEYS) if key in text}
    if architecture == "InternLM2ForCausalLM":
        llm["bias"] = llm.pop("attention_bias", False)
    if "rope_parameters" in text:
        llm |= rope_to_official(text["rope_parameters"], kind_key="type")
    llm |= {"model_type": _TEXT_MODELS[architecture][0], "architectures": [architecture]}
    vision = {key: tower[native] for key, native in _VISION_KEYS.items() if native in tower}
    vision |= {key: side_of(vision[key]) for key in ("image_size", "patch_size") if key in vision}
    vision |= {"model_type": "intern_vit_6b", "architectures": ["InternVisionModel"]}
    return {
        "architectures": ["Sa2VAChatModel"],
        "model_type": "sa2va_chat",
        "auto_map": {
            "AutoConfig": "configuration_sa2va_chat.Sa2VAChatConfig",
            "AutoModel": "modeling_sa2va_chat.Sa2VAChatModel",
            "AutoModelForCausalLM": "modeling_sa2va_chat.Sa2VAChatModel",
        },
        "vision_config": vision,
        "llm_config": {**llm, "tie_word_embeddings": False},
        "template": config.template,
        "downsample_ratio": config.mllm.get("downsample_ratio", 0.5),
        "select_layer": config.mllm.get("vision_feature_layer", -1),
        "force_image_size": config.tile_size,
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "ps_version": "v2",
        "pad2square": False,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": config.max_tiles,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "hidden_size": text["hidden_size"],
        "tie_word_embeddings": False,
    }


def _vision_rules() -> list[Rule]:
    official, native = "vision_model.encoder.layers.{i}.", "model.vision_tower.encoder.layer.{i}."
    parts = {
        "norm1.{rest}": "layernorm_before.{rest}",
        "norm2.{rest}": "layernorm_after.{rest}",
        "ls1": "lambda_1",
        "ls2": "lambda_2",
        "mlp.{rest}": "mlp.{rest}",
        "attn.proj.{rest}": "attention.projection_layer.{rest}",
        "attn.q_norm.{rest}": "attention.q_norm.{rest}",
        "attn.k_norm.{rest}": "attention.k_norm.{rest}",
    }
    start = {
        "vision_model.embeddings.class_embedding": "embeddings.cls_token",
        "vision_model.embeddings.position_embedding": "embeddings.position_embeddings",
        "vision_model.embeddings.patch_embedding.{rest}": "embeddings.patch_embeddings.projection.{rest}",
    }
    end = {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}
    fused = tuple(native + f"attention.{name}_proj.{{rest}}" for name in "qkv")
    return [
        *[Rule.rename(name, f"model.vision_tower.{other}") for name, other in start.items()],
        *[Rule.rename(official + name, native + other) for name, other in parts.items()],
        Rule.split(official + "attn.qkv.{rest}", fused),
        *[Rule.rename(f"mlp1.{n}.{{rest}}", f"model.multi_modal_projector.{name}.{{rest}}") for n, name in end.items()],
    ]


def _grouped_attention(num_heads: int, num_key_value_heads: int) -> Rule:
    """InternLM2 stores, per key and value head, the rows of its queries, then of the key, then of the value."""
    group = num_heads // num_key_value_heads

    def to_native(tensors: Sequence[Tensor]) -> list[Tensor]:
        rows = tensors[0].unflatten(0, (num_key_value_heads, group + 2, -1))
        parts = (rows[:, :group], rows[:, group], rows[:, group + 1])
        return [part.flatten(0, part.ndim - tensors[0].ndim).contiguous() for part in parts]

    def to_official(tensors: Sequence[Tensor]) -> list[Tensor]:
        shapes = ((num_key_value_heads, group, -1), (num_key_value_heads, 1, -1), (num_key_value_heads, 1, -1))
        rows = [tensor.unflatten(0, shape) for tensor, shape in zip(tensors, shapes, strict=True)]
        return [torch.cat(rows, dim=1).flatten(0, 2)]

    official = "language_model.model.layers.{i}.attention.wqkv.{rest}"
    native = tuple(f"model.language_model.layers.{{i}}.self_attn.{name}_proj.{{rest}}" for name in "qkv")
    return Rule((official,), native, to_native, to_official)


def _internlm2_rules(text: dict[str, Any]) -> list[Rule]:
    official, native = "language_model.model.layers.{i}.", "model.language_model.layers.{i}."
    parts = {
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w2": "mlp.down_proj",
        "feed_forward.w3": "mlp.up_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    heads = text["num_attention_heads"]
    return [
        _grouped_attention(heads, text.get("num_key_value_heads") or heads),
        *[Rule.rename(f"{official}{name}.{{rest}}", f"{native}{other}.{{rest}}") for name, other in parts.items()],
        Rule.rename("language_model.model.tok_embeddings.{rest}", "model.language_model.embed_tokens.{rest}"),
        Rule.rename("language_model.model.norm.{rest}", "model.language_model.norm.{rest}"),
        Rule.rename("language_model.output.{rest}", "lm_head.{rest}"),
    ]


def key_rules(mllm: dict[str, Any]) -> tuple[Rule, ...]:
    """Return how the published tensors are called natively, for the `mllm` part of a Sa2VA config."""
    text = mllm["text_config"]
    if _architecture(text) == "InternLM2ForCausalLM":
        return (*_vision_rules(), *_internlm2_rules(text))
    return (
        *_vision_rules(),
        Rule.rename("language_model.model.{rest}", "model.language_model.{rest}"),
        Rule.rename("language_model.lm_head.{rest}", "lm_head.{rest}"),
    )
