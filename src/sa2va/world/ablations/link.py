"""Forget what links a language model with SAM 2: the paper's runs start from two parts that never met.

Flow: runs.py -> forget_link -> projector, embeddings and logits of the added tokens with new random weights.
"""

import math
from dataclasses import replace
from typing import Any

import torch

from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.supervised import new_token_ids


def forget_link(model: Sa2VA, processor: Processor, seed: int) -> None:
    """Draw the projector and the rows of [SEG], <p>, </p>, <vp> and </vp> anew, in place.

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
                values.copy_(torch.empty(values.shape).uniform_(-bound, bound, generator=generator))
        for weight in (table.weight for table in tables):
            drawn = torch.empty(len(rows), weight.shape[1]).normal_(generator=generator)
            weight[rows] = drawn.to(weight.device) * weight.std()
    model.config = replace(model.config, gate_absent=False)
