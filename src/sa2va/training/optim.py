"""Build the optimizer, its schedule and the averaged weights.

Flow: loop.py -> build_optimizer once; set_lr, clip_gradients, Ema.update at every step.
Source: AdamW, arXiv:1711.05101; cosine schedule, arXiv:1608.03983.
"""

import math
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sa2va.training.stage import StageConfig

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
EMBEDDINGS_AND_NORMS = (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.RMSNorm)


def schedule_factor(step: int, *, steps: int, warmup_steps: int, min_lr_ratio: float) -> float:
    """Return the share of the peak learning rate at a step: linear warmup, then a cosine to `min_lr_ratio`.

    Args:
        step: number of the step, 0 .. steps - 1.
        steps: length of the stage; the last step uses exactly `min_lr_ratio`.
        warmup_steps: steps of the warmup; step warmup_steps - 1 reaches 1. At most half the stage is warmup.
        min_lr_ratio: floor of the cosine, 0..1.
    """
    warmup = min(warmup_steps, steps // 2)
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    return min_lr_ratio + (1.0 - min_lr_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress))


def undecayed_names(module: nn.Module) -> set[str]:
    """Return the parameters that take no weight decay: vectors, norms, embeddings, free tokens and encodings.

    Only a `weight` of two or more dimensions is a matrix; a free parameter such as `cls_token` is an embedding.
    A matrix tied to an embedding counts as one.
    """
    embedded = {id(p) for m in module.modules() if isinstance(m, EMBEDDINGS_AND_NORMS) for p in m.parameters(False)}
    names = set()
    for name, parameter in module.named_parameters():
        is_matrix = parameter.ndim >= 2 and name.rpartition(".")[2].endswith("weight")
        if not is_matrix or id(parameter) in embedded:
            names.add(name)
    return names


def parameter_groups(module: nn.Module, parameters: Iterable[Any], config: StageConfig) -> list[dict[str, Any]]:
    """Split what is trained into groups with and without weight decay.

    Args:
        module: owner of all the parameters; gives them names.
        parameters: nn.Parameter objects, or dicts {"params": [...], "lr": peak or "lr_scale": share of config.lr,
            "weight_decay": ...} (all but "params" optional). Frozen parameters are left out.
        config: defaults of lr and weight decay.

    Returns:
        Groups for torch.optim, each with "peak_lr" and the "names" of its parameters in the module.
    """
    items = list(parameters)
    groups: list[dict[str, Any]] = items if items and isinstance(items[0], dict) else [{"params": items}]
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    undecayed = undecayed_names(module)
    result: list[dict[str, Any]] = []
    seen: set[int] = set()
    for group in groups:
        peak_lr = float(group.get("lr", config.lr * group.get("lr_scale", 1.0)))
        decay = float(group.get("weight_decay", config.weight_decay))
        members = [p for p in group["params"] if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in members)
        strangers = [tuple(p.shape) for p in members if id(p) not in names]
        assert not strangers, f"stage {config.name}: parameters of shapes {strangers} are not in module()"
        for value in (decay, 0.0):
            chosen = [p for p in members if (names[id(p)] in undecayed) == (value == 0.0)] if decay else members
            if chosen:
                named = [names[id(p)] for p in chosen]
                result.append(
                    {"params": chosen, "names": named, "lr": peak_lr, "peak_lr": peak_lr, "weight_decay": value}
                )
            if not decay:
                break
    assert result, f"stage {config.name}: nothing to train; every parameter is frozen"
    return result


def build_optimizer(module: nn.Module, parameters: Iterable[Any], config: StageConfig) -> torch.optim.AdamW:
    """Build AdamW over the given parameters (see `parameter_groups`)."""
    groups = parameter_groups(module, parameters, config)
    device_types = {p.device.type for group in groups for p in group["params"]}
    fused = device_types <= {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its peak times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def trained_parameters(optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    """Return name -> parameter of everything the optimizer updates."""
    return {n: p for group in optimizer.param_groups for n, p in zip(group["names"], group["params"], strict=True)}


def clip_gradients(parameters: Iterable[nn.Parameter], clip_norm: float) -> Tensor:
    """Scale the gradients down to `clip_norm` (0 = leave them) and return their norm before that, a scalar."""
    return nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return AdamW's moments by parameter name: `exp_avg.<name>`, `exp_avg_sq.<name>`, `step.<name>`."""
    tensors = {}
    for name, parameter in trained_parameters(optimizer).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the moments of `optimizer_tensors` back.

    Raises:
        ValueError: when they belong to other parameters.
    """
    trained = trained_parameters(optimizer)
    for key, value in tensors.items():
        moment, _, name = key.partition(".")
        parameter = trained.get(name)
        if parameter is None or moment not in MOMENTS or (moment != "step" and value.shape != parameter.shape):
            raise ValueError(f"the optimizer state has {key} {tuple(value.shape)}, which fits no trained parameter")
        optimizer.state[parameter][moment] = value.to(parameter.device, copy=True)


class Ema:
    """Keep an exponential moving average of the trained weights, in float32.

    The decay grows with the number of updates, min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self._parameters = parameters
        self.average = {name: p.detach().float().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        present = [p.detach().float() for p in self._parameters.values()]
        torch._foreach_lerp_(list(self.average.values()), present, 1.0 - decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Overwrite the weights with their average."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.average[name])

    @contextmanager
    def applied(self) -> Generator[None]:
        """Put the averaged weights in place for the length of a `with` block."""
        kept = {name: p.detach().clone() for name, p in self._parameters.items()}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(kept[name])

    def load(self, tensors: dict[str, Tensor], num_updates: int) -> None:
        """Restore a saved average.

        Raises:
            ValueError: when it belongs to other parameters.
        """
        if set(tensors) != set(self.average):
            odd = sorted(set(tensors) ^ set(self.average))[0]
            raise ValueError(f"the averaged weights do not fit the trained ones; first difference: {odd}")
        for name, tensor in tensors.items():
            self.average[name].copy_(tensor)
        self.num_updates = num_updates
