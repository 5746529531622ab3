"""Define the embedded model: sizes, tokenizer and initial weights.

Flow: corpus -> train_tokenizer -> build_tiny_config -> Sa2VA with random weights -> recipes.py.
Source: sizes are our own: the weights take at most 30 MB in bfloat16, and two CPU cores can train them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sa2va.files.atomic import whole_folder
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families import internvl
from sa2va.model.families.templates import TURN_END, TURN_START
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.tokens import ADDED_TOKENS
from sa2va.world.language.grammar import vocabulary
from sa2va.world.tasks.catalog import TASKS

TILE_SIZE, PATCH_SIZE = 192, 12  # px
SAM_SIZE, SAM_WIDTH, HIERA_WIDTH = 192, 128, 32
VISION_WIDTH, TEXT_WIDTH = 192, 256
TEMPORAL_HEADS = 4


def build_tiny_config(tokenizer: PreTrainedTokenizerBase) -> Sa2VAConfig:
    """Return the configuration of the embedded model for a tokenizer."""
    vision = {
        "hidden_size": VISION_WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 512,
        "image_size": TILE_SIZE,
        "patch_size": PATCH_SIZE,
        "attention_bias": True,
        "layer_scale_init_value": 0.5,
        "initializer_range": 0.05,
        "use_absolute_position_embeddings": True,
        "use_mean_pooling": True,
    }
    text = {
        "model_type": "qwen2",
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 640,
        "num_hidden_layers": 9,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.05,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    mllm = {
        "vision_config": vision,
        "text_config": text,
        "image_token_id": tokenizer.convert_tokens_to_ids(internvl.IMAGE_TOKEN),
        "downsample_ratio": 0.5,
        "tie_word_embeddings": False,
    }
    return Sa2VAConfig(
        family="internvl",
        mllm=mllm,
        sam2=_sam2_config(),
        tile_size=TILE_SIZE,
        tokens_per_tile=(TILE_SIZE // PATCH_SIZE // 2) ** 2,
        max_tiles=1,
        num_keyframes=4,
        temporal_heads=TEMPORAL_HEADS,
        sure_keyframes=0.85,
        gate_absent=True,
    )


def _sam2_config() -> dict[str, object]:
    widths = [HIERA_WIDTH * 2**stage for stage in range(4)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": HIERA_WIDTH,
        "num_attention_heads": 1,
        "image_size": [SAM_SIZE, SAM_SIZE],
        "blocks_per_stage": [1, 2, 4, 1],
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 12, 6],
        "global_attention_blocks": [5],
        "window_positional_embedding_background_size": [12, 12],
    }
    grids = [[SAM_SIZE // stride] * 2 for stride in (4, 8, 16)]
    return {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": grids,
            "fpn_hidden_size": SAM_WIDTH,
        },
        "prompt_encoder_config": {"hidden_size": SAM_WIDTH, "image_size": SAM_SIZE},
        "mask_decoder_config": {
            "hidden_size": SAM_WIDTH,
            "mlp_dim": 256,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": SAM_WIDTH,
        },
        "image_size": SAM_SIZE,
        "initializer_range": 0.06,  # 0.02 suits widths of a thousand; at this width initial attention would be uniform
        # As in SAM 2.1: the memory of a frame without the object says so. The pointers are those of SAM 2.0, which the
        # published models contain.
        "enable_occlusion_spatial_embedding": True,
        "enable_temporal_pos_encoding_for_object_pointers": False,
        "memory_attention_hidden_size": SAM_WIDTH,
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 256,
        "memory_attention_dropout": 0.0,
        "memory_attention_rope_dropout": 0.0,
        "memory_attention_rope_feat_sizes": grids[-1],
        "memory_encoder_hidden_size": SAM_WIDTH,
        "memory_encoder_output_channels": 64,  # fixed in the native memory attention
        "mask_downsampler_embed_dim": SAM_WIDTH,
        "memory_fuser_embed_dim": SAM_WIDTH,
        "memory_fuser_intermediate_dim": 2 * SAM_WIDTH,
        "memory_fuser_layer_scale_init_value": 0.1,
    }


def build_tiny_model(tokenizer: PreTrainedTokenizerBase) -> tuple[Sa2VA, Processor]:
    """Build the embedded model with its initial random weights."""
    model = Sa2VA(build_tiny_config(tokenizer))
    init_positions(model)
    init_text(model)
    init_place_attention(model)
    init_memory_attention(model)
    return model, Processor(model.config, tokenizer)


def with_temporal(model: Sa2VA, processor: Processor) -> tuple[Sa2VA, Processor]:
    """Add an untrained temporal encoder to a model without one; its answers stay the same."""
    if model.config.temporal_heads:
        return model, processor
    config = replace(model.config, temporal_heads=TEMPORAL_HEADS)
    grown = Sa2VA(config)
    left = grown.load_state_dict(model.state_dict(), strict=False)
    assert not left.unexpected_keys and all(key.startswith("mllm.temporal.") for key in left.missing_keys)
    return grown, Processor(config, processor.tokenizer)


def load_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerBase:
    """Train the tokenizer of a run, or load it if the run is resumed."""
    if not (folder / "tokenizer.json").is_file():
        with whole_folder(folder) as draft:
            train_tokenizer(corpus(seed)).save_pretrained(draft)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def init_positions(model: Sa2VA) -> None:
    """Initialize the vision tower's position embeddings with sines and cosines of row and column, in place.

    The native class initializes them to zero. From zero, learning neighborhood relations took most of the training,
    and shapes, which depend on them, were learned last.
    """
    table = model.mllm.native.model.vision_tower.embeddings.position_embeddings
    side, width = TILE_SIZE // PATCH_SIZE, table.shape[-1]
    frequencies = 100.0 ** (-torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies  # (G, width / 4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1)  # (G, width / 2)
    rows = waves[:, None].expand(side, side, -1)
    columns = waves[None].expand(side, side, -1)
    with torch.no_grad():
        table[0, 1:] = torch.cat([rows, columns], dim=-1).flatten(0, 1) * 0.5


def init_text(model: Sa2VA) -> None:
    """Initialize the text model's residual stream so that no layer outweighs the others, in place.

    With the native initialization, a word embedding has norm 0.8. Within a few hundred steps the first layer adds a
    common vector of norm 200 to every position, which hides the differences between positions. Here words and visual
    tokens start with norms comparable to normalized states, and each layer adds little.
    """
    native = model.mllm.native
    text, projector = native.model.language_model, native.model.multi_modal_projector
    shrink = (2 * len(text.layers)) ** -0.5
    with torch.no_grad():
        text.embed_tokens.weight.normal_(0, 0.5)
        for layer in text.layers:
            layer.self_attn.o_proj.weight.mul_(shrink)
            layer.mlp.down_proj.weight.mul_(shrink)
        for linear in (projector.linear_1, projector.linear_2):
            linear.weight.normal_(0, linear.in_features**-0.5)


def init_place_attention(model: Sa2VA, scale: float = 1.5) -> None:
    """Initialize the mask decoder's cross-attention so that every position attends to itself, in place.

    Queries and keys contain the same position encoding, but two different random projections destroy the similarity.
    The decoder then segmented all objects at once for thousands of prompts before it selected the prompted one. With
    one projection for both, scaled to separate positions, it locates the prompt from the start.
    """
    transformer = model.sam2.native.mask_decoder.transformer
    attentions: list[Any] = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions.extend((layer.cross_attn_token_to_image, layer.cross_attn_image_to_token))
    with torch.no_grad():
        for attention in attentions:
            attention.q_proj.weight.mul_(scale)
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def init_memory_attention(model: Sa2VA, bias: float = 1.0) -> None:
    """Initialize SAM 2's memory attention so that a position attends to the same one in memory, in place.

    After the rotary encoding, the product of a constant query and a constant key depends only on their distance. With
    random projections alone, the tracks of different objects merged within a frame.
    """
    with torch.no_grad():
        for layer in model.sam2.native.memory_attention.layers:
            layer.cross_attn_image.q_proj.bias.fill_(bias)
            layer.cross_attn_image.k_proj.bias.fill_(bias)


def corpus(seed: int, num_samples: int = 60) -> Iterator[str]:
    """Yield the questions and answers of some training samples, and every word of the grammar."""
    for name, build in TASKS.items():
        for index in range(num_samples if not name.startswith("video") else num_samples // 4):
            for turn in build(seed, "train", index).turns:
                yield "\n" + turn.question
                yield turn.answer
    # Enough repeats that the merges make each word one token, alone and after a space.
    for _ in range(20):
        yield " ".join(vocabulary())
        yield from vocabulary()


def train_tokenizer(texts: Iterable[str], vocab_size: int = 1536) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer: every word of the texts becomes one token, other text falls back to bytes.

    Args:
        texts: questions and answers to train on.
        vocab_size: upper bound before the special tokens are added.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=TURN_END,
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [*internvl.BASE_TOKENS, *ADDED_TOKENS]})
    return tokenizer
