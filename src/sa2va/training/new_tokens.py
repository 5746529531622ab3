"""Add embeddings for new mask tokens, train the rows of new tokens alone, and untie the two embedding matrices.

Flow: SupervisedRun.build_model -> change_seg_design, untie_embeddings -> train_new_rows -> a training stage
    -> merge_new_rows.
Source: the released training saves both matrices whole, and not at all for InternLM2, whose matrices have other names.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.seg_design import SEG_DESIGNS

ROWS, IDS, HOOK = "new_rows", "new_ids", "_new_rows_hook"  # set on an embedding or a head whose new rows are trained


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


def untie_embeddings(model: Sa2VA) -> None:
    """Give the head a matrix of its own if it shares that of the input embeddings, in place."""
    native = model.mllm.native
    head = native.get_output_embeddings()
    if head.weight is native.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
    mllm = copy.deepcopy(model.config.mllm)
    for part, values in ((native.config, mllm), (native.config.get_text_config(), mllm.get("text_config", {}))):
        part.tie_word_embeddings = False
        if "tie_word_embeddings" in values:
            values["tie_word_embeddings"] = False
    model.config = replace(model.config, mllm=mllm)


def train_new_rows(model: Sa2VA, ids: Sequence[int]) -> None:
    """Freeze the input embeddings and the head, except for the rows of some tokens, in place.

    The rows become parameters of their own, so that gradients and moments are as small as they are.

    Args:
        model: of any family; tied matrices share the rows.
        ids: token ids, distinct.
    """
    tables = (model.mllm.native.get_input_embeddings(), model.mllm.native.get_output_embeddings())
    rows: dict[int, nn.Parameter] = {}
    for table, write in zip(tables, (_write_embeddings, _write_logits), strict=True):
        table.requires_grad_(False)
        index = torch.tensor(list(ids), device=table.weight.device)
        row = rows.setdefault(id(table.weight), nn.Parameter(table.weight.detach()[index].clone()))
        table.register_parameter(ROWS, row)
        table.register_buffer(IDS, index, persistent=False)
        setattr(table, HOOK, table.register_forward_hook(write))


def merge_new_rows(model: Sa2VA) -> None:
    """Write trained rows into their matrices and remove them, in place."""
    for table in (model.mllm.native.get_input_embeddings(), model.mllm.native.get_output_embeddings()):
        if hasattr(table, ROWS):
            with torch.no_grad():
                table.weight[getattr(table, IDS)] = getattr(table, ROWS)
            getattr(table, HOOK).remove()
            for name in (ROWS, IDS, HOOK):
                delattr(table, name)


def _write_embeddings(table: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Replace the embeddings of new tokens: ids (...), output (..., D)."""
    rows, ids = _rows(table, output)
    place = (inputs[0][..., None] == ids).int()  # (..., n)
    return torch.where(place.any(-1, keepdim=True), rows[place.argmax(-1)], output)


def _write_logits(table: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Replace the logits of new tokens: states (..., D), output (..., V)."""
    rows, ids = _rows(table, output)
    bias = None if table.bias is None else table.bias[ids]
    return output.index_copy(-1, ids, F.linear(inputs[0], rows, bias).to(output.dtype))


def _rows(table: Any, output: Tensor) -> tuple[Tensor, Tensor]:
    return table.new_rows.to(output.dtype), table.new_ids
