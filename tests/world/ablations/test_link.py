"""Check what the runs damage of the start model, and what they keep."""

import math

import pytest
import torch

from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import load_checkpoint
from sa2va.training.supervised import new_token_ids
from sa2va.world.ablations.link import KEPT, damage_link


def test_damages_projector_and_added_tokens_alone_by_the_seed() -> None:
    changed = []
    for seed in (0, 0, 1):
        model, processor = load_checkpoint(find_model("tiny"), torch.device("cpu"), torch.float32)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        damage_link(model, processor, seed)
        after = model.state_dict()
        changed.append({name: after[name] for name in after if not torch.equal(before[name], after[name])})
        tables = {model.mllm.native.get_input_embeddings().weight, model.mllm.native.get_output_embeddings().weight}
        rows = new_token_ids(processor)
        for table in tables:
            (name,) = [name for name, value in model.named_parameters() if value is table]
            kept = [row for row in range(len(table)) if row not in rows]
            assert torch.equal(before[name][kept], table[kept]) and not torch.equal(before[name][rows], table[rows])
            assert 0.5 < float(table[rows].detach().std() / table[kept].detach().std()) < 2
        for name in ("projector.fc1.weight", "projector.fc2.weight"):
            new = (after[name] - KEPT * before[name]) / (1 - KEPT)
            bound = 1 / math.sqrt(new.shape[1])  # as nn.Linear begins
            assert new.abs().max() <= bound * 1.001 and float(new.std()) == pytest.approx(
                bound / math.sqrt(3), rel=0.05
            )
        assert not model.config.gate_absent
    one, same, other = changed
    prefixes = {name.split(".")[0] for name in one}
    assert prefixes == {"projector", "mllm"} and len(one) == 6
    assert all(torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name]) for name in one)
