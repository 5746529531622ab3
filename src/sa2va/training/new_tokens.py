"""Change the [SEG] design of a model; add embeddings for its new mask tokens.

Flow: SupervisedRun.build_model -> change_seg_design -> a model to train with the design.
"""

import copy
from dataclasses import replace

import torch

from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.seg_design import SEG_DESIGNS


def change_seg_design(model: Sa2VA, processor: Processor, name: str) -> tuple[Sa2VA, Processor]:
    """Change the [SEG] design of a model; embeddings of new tokens are copied from the current mask token.

    Args:
        model: modified in place.
        processor: processor of the model; the new tokens are added to its tokenizer.
        name: a key of SEG_DESIGNS.

    Returns:
        The model and a processor for it.
    """
    native, tokenizer, design = model.mllm.native, processor.tokenizer, SEG_DESIGNS[name]
    added = design.added_tokens(model.config.num_keyframes)
    tokenizer.add_tokens(list(added), special_tokens=True)
    mllm = copy.deepcopy(model.config.mllm)
    if len(tokenizer) > len(native.get_input_embeddings().weight):
        native.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        mllm["text_config"]["vocab_size"] = len(tokenizer)
    rows = tokenizer.convert_tokens_to_ids(list(added))
    with torch.no_grad():
        for table in (native.get_input_embeddings(), native.get_output_embeddings()):
            table.weight[rows] = table.weight[processor.seg_id].clone()
    model.config, model.design = replace(model.config, seg_design=name, mllm=mllm), design
    return model, Processor(model.config, tokenizer)
