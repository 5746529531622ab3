"""Build a very small Sa2VA with random weights, and pictures that it can learn."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import sa2va
from sa2va.model.config import Sa2VAConfig
from sa2va.model.families import internvl
from sa2va.model.families.templates import TURN_END, TURN_START
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.seg_design import SEG_DESIGNS
from sa2va.model.temporal import TemporalConfig, TemporalEncoder
from sa2va.tokens import ADDED_TOKENS
from sa2va.types import Sample, Span, Turn

EMBEDDED = Path(sa2va.__file__).parent / "weights" / "tiny"
WORDS = "Please segment the red blue small large circle square star left right of It is Sure , it There no . ?"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE in which each of WORDS is one token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", TURN_START, TURN_END]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([WORDS] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=TURN_END, pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": [*internvl.BASE_TOKENS, *ADDED_TOKENS]})
    return tokenizer


def shrink(values: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> Sa2VAConfig:
    """Reduce the embedded model's configuration to what a test can train in seconds, in place."""
    values["mllm"]["image_token_id"] = tokenizer.convert_tokens_to_ids(internvl.IMAGE_TOKEN)
    values["mllm"]["text_config"]["vocab_size"] = len(tokenizer)
    vision, text, sam2 = values["mllm"]["vision_config"], values["mllm"]["text_config"], values["sam2"]
    vision |= {"hidden_size": 48, "num_hidden_layers": 2, "intermediate_size": 96, "image_size": 64, "patch_size": 8}
    text |= {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    values |= {"tile_size": 64, "tokens_per_tile": 16}
    widths, size = [16, 32, 64, 128], 64
    sam2["image_size"] = size
    sam2["vision_config"]["backbone_config"] |= {
        "hidden_size": 16,
        "image_size": [size, size],
        "embed_dim_per_stage": widths,
        "blocks_per_stage": [1, 1, 2, 1],
        "global_attention_blocks": [3],
    }
    grids = [[size // stride] * 2 for stride in (4, 8, 16)]
    sam2["vision_config"] |= {
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": grids,
        "fpn_hidden_size": 64,
    }
    sam2["prompt_encoder_config"] = {"hidden_size": 64, "image_size": size}
    sam2["mask_decoder_config"] |= {"hidden_size": 64, "mlp_dim": 64, "iou_head_hidden_dim": 64}
    sam2 |= {
        "memory_attention_hidden_size": 64,
        "memory_attention_feed_forward_hidden_size": 64,
        "memory_attention_rope_feat_sizes": grids[-1],
        "memory_encoder_hidden_size": 64,
        "mask_downsampler_embed_dim": 64,
        "memory_fuser_embed_dim": 64,
        "memory_fuser_intermediate_dim": 64,
    }
    return Sa2VAConfig.from_dict(values)


def build_model(seed: int = 0, seg_design: str = "single") -> tuple[Sa2VA, Processor]:
    """Build a small model in which no weight is at a start value that hides mistakes."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(list(SEG_DESIGNS[seg_design].added_tokens(4)), special_tokens=True)
    config = shrink(json.loads((EMBEDDED / "config.json").read_text()), tokenizer)
    config = replace(config, seg_design=seg_design, temporal_heads=2)
    model = Sa2VA(replace(config, temporal_heads=0))
    _fill_zeros(model)
    model.config, temporal = config, TemporalConfig.of(config)
    assert temporal is not None
    model.mllm.temporal = TemporalEncoder(temporal, model.mllm.width)  # last, so that other weights do not depend on it
    _fill_zeros(model)
    return model.eval(), Processor(config, tokenizer)


def _fill_zeros(model: Sa2VA) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)


def draw_sample(seed: int, num_frames: int = 1) -> Sample:
    """Draw one bright square on noise, and ask for it."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 90, (num_frames, 64, 64, 3), dtype=np.uint8)
    masks = np.zeros((1, num_frames, 64, 64), dtype=bool)
    side = int(rng.integers(16, 28))
    y, x = rng.integers(0, 64 - side, 2)
    masks[:, :, y : y + side, x : x + side] = True
    color, name = ((250, 40, 40), "red") if seed % 2 else ((40, 40, 250), "blue")
    frames[masks[0]] = color
    turn = Turn(
        question=f"Please segment the {name} square.",
        answer="Sure, it is .",
        spans=(Span(start=12, end=12, objects=(0,)),),
    )
    return Sample.of_arrays(frames=frames, turns=(turn,), masks=masks)
