"""Damage what links a language model with SAM 2, so that every run has to learn it, with a seed of its own.

Flow: runs.py -> damage_link -> projector, embeddings and logits of the added tokens, a quarter kept, the rest random.
    The paper's runs start from two parts that never met. Runs of some hundred samples are too short to learn the link
    from nothing: see docs/ablations.md.
"""

import math
from dataclasses import replace
from typing import Any

import torch

from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.supervised import new_token_ids

KEPT = 0.25  # share of the old weights, with which no mask is right any more; the rest is as weights begin


def damage_link(model: Sa2VA, processor: Processor, seed: int) -> None:
    """Mix the projector and the rows of [SEG], <p>, </p>, <vp> and </vp> with new random weights, in place.

    The rest of both models keeps its weights. Masks are shown whatever their presence score, as by the published
    models: that score was learned with the old link, and the paper's losses do not train it.

    Args:
        model: on the CPU or the meta device.
        processor: of the model.
        seed: of the new weights.
    """
    generator = torch.Generator().manual_seed(seed)
    native, rows = model.mllm.native, new_token_ids(processor)
    tables: list[Any] = [native.get_input_embeddings(), native.get_output_embeddings()]
    with torch.no_grad():
        for layer in (model.projector.fc1, model.projector.fc2):
            bound = 1 / math.sqrt(layer.in_features)  # as nn.Linear begins
            for values in (layer.weight, layer.bias):
                drawn = torch.empty(values.shape).uniform_(-bound, bound, generator=generator)
                values.lerp_(drawn.to(values.device), 1 - KEPT)
        for weight in (table.weight for table in tables):
            drawn = torch.empty(len(rows), weight.shape[1]).normal_(generator=generator).to(weight.device)
            weight[rows] = weight[rows].lerp(drawn * weight.std(), 1 - KEPT)
    model.config = replace(model.config, gate_absent=False)
