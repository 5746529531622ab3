"""Build the optimizer, its learning rate schedule and the averaged weights (EMA).

Flow: trainer.py -> build_optimizer, build_schedule, build_average once per stage.
Source: AdamW, arXiv:1711.05101; cosine schedule, arXiv:1608.03983.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sa2va.training.stage import StageConfig

EMBEDDINGS_AND_NORMS = (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.RMSNorm)


def undecayed_names(module: nn.Module) -> set[str]:
    """Return the names of parameters without weight decay: vectors, norms, embeddings, learned tokens and encodings.

    Only a `weight` of two or more dimensions counts as a matrix; a bare parameter such as `cls_token` does not.
    A matrix tied to an embedding counts as an embedding.
    """
    embedded = {id(p) for m in module.modules() if isinstance(m, EMBEDDINGS_AND_NORMS) for p in m.parameters(False)}
    names = set()
    for name, parameter in module.named_parameters():
        is_matrix = parameter.ndim >= 2 and name.rpartition(".")[2].endswith("weight")
        if not is_matrix or id(parameter) in embedded:
            names.add(name)
    return names


def parameter_groups(module: nn.Module, parameters: Iterable[Any], config: StageConfig) -> list[dict[str, Any]]:
    """Split the trained parameters into groups with and without weight decay; `decay_vectors` decays all of them.

    Args:
        module: contains all the parameters and gives them names.
        parameters: nn.Parameter objects, or dicts {"params": [...], "lr": peak or "lr_scale": factor of config.lr,
            "weight_decay": ...} (all but "params" optional). Frozen parameters are left out.
        config: default lr and weight decay.

    Returns:
        Parameter groups for torch.optim; the schedule scales "initial_lr", the peak.
    """
    items = list(parameters)
    groups: list[dict[str, Any]] = items if items and isinstance(items[0], dict) else [{"params": items}]
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    undecayed = set() if config.decay_vectors else undecayed_names(module)
    result: list[dict[str, Any]] = []
    seen: set[int] = set()
    for group in groups:
        lr = float(group.get("lr", config.lr * group.get("lr_scale", 1.0)))
        decay = float(group.get("weight_decay", config.weight_decay))
        members = [p for p in group["params"] if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in members)
        strangers = [tuple(p.shape) for p in members if id(p) not in names]
        assert not strangers, f"stage {config.name}: parameters of shapes {strangers} are not in its module"
        decayed = [p for p in members if decay and names[id(p)] not in undecayed]
        rest = [p for p in members if not decay or names[id(p)] in undecayed]
        for chosen, value in ((decayed, decay), (rest, 0.0)):
            if chosen:
                result.append({"params": chosen, "lr": lr, "initial_lr": lr, "weight_decay": value})
    assert result, f"stage {config.name}: nothing to train; every parameter is frozen"
    return result


def build_optimizer(module: nn.Module, parameters: Iterable[Any], config: StageConfig) -> torch.optim.AdamW:
    """Build AdamW for the given parameters; see `parameter_groups`."""
    groups = parameter_groups(module, parameters, config)
    device_types = {p.device.type for group in groups for p in group["params"]}
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=device_types <= {"cpu", "cuda"})


def build_schedule(optimizer: torch.optim.Optimizer, config: StageConfig, step: int) -> LRScheduler:
    """Build the learning rate schedule, starting at `step`: linear warmup, then cosine decay to `min_lr_ratio`.

    Warmup takes at most half the stage. The last step uses exactly `min_lr_ratio`.
    """
    # Imported here, since it takes seconds and loads optional libraries.
    from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup_lr_rate

    return get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
        optimizer,
        num_warmup_steps=min(config.warmup_steps, config.steps // 2),
        num_training_steps=config.steps,
        min_lr_rate=config.min_lr_ratio,
        last_epoch=step - 1,
    )


def trained_parameters(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    """Return name -> parameter for all parameters of the optimizer."""
    updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name: p for name, p in module.named_parameters() if id(p) in updated}


def build_average(weights: nn.ParameterList, decay: float) -> AveragedModel:
    """Build the exponential moving average of the trained weights; frozen weights are not copied.

    The decay grows with the number n of updates, min(decay, (1 + n) / (10 + n)), so the initial weights fade quickly.
    """

    def update(averages: Any, present: Any, num_updates: Any) -> None:
        count = float(num_updates)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averages, present, num_updates)

    return AveragedModel(weights, multi_avg_fn=update)


def average_tensors(average: AveragedModel, trained: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the averaged weights by name."""
    return dict(zip(trained, (p.detach() for p in average.module.parameters()), strict=True))


@torch.no_grad()
def copy_tensors(source: dict[str, Tensor], target: dict[str, Any]) -> None:
    """Copy tensors into `target`, by name.

    Raises:
        ValueError: the names differ.
    """
    if odd := sorted(set(source) ^ set(target)):
        raise ValueError(f"the averaged weights do not fit the trained ones; first difference: {odd[0]}")
    for name, tensor in source.items():
        target[name].copy_(tensor)


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def blend_tensors(source: Mapping[str, Tensor], target: Mapping[str, Tensor], share: float) -> None:
    """Move each tensor of `target` by `share` of the way to that of `source` with its name, in place."""
    for name, tensor in source.items():
        target[name].lerp_(tensor, share)


@contextmanager
def averaged(average: AveragedModel | None, trained: dict[str, nn.Parameter]) -> Generator[None]:
    """Use the averaged weights within a `with` block."""
    if average is None:
        yield
        return
    kept = copies(trained)
    copy_tensors(average_tensors(average, trained), trained)
    try:
        yield
    finally:
        copy_tensors(kept, trained)
