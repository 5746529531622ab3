"""Shard a model over processes with FSDP2, so that each holds 1/W of weights, gradients and moments.

Flow: run_stage with `parallel=fsdp` -> shard_module -> the trainer's loop, unchanged; the same on CPUs (gloo) and GPUs.
Source: torch.distributed.fsdp.fully_shard; ZeRO stage 3, arXiv:1910.02054.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from sa2va.model.mllm import Mllm


def transformer_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the transformer layers of the language model and of its image encoder."""
    from transformers.modeling_layers import GradientCheckpointingLayer  # the base class of every layer

    for part in module.modules():
        if isinstance(part, Mllm):
            yield from (layer for layer in part.modules() if isinstance(layer, GradientCheckpointingLayer))


def shard_module(module: nn.Module, device: torch.device) -> None:
    """Shard a module over all processes, in place: one group for each transformer layer, one for the rest.

    A group is gathered while it runs and freed after it; the rest, with embeddings and SAM 2, stays gathered until the
    backward pass has ended. Frozen parameters are sharded, too.

    Args:
        module: on the CPU or on `device`, the same in every process; its groups are moved to `device` one by one.
        device: of this process.
    """
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for parameter in module.parameters():
        if parameter.requires_grad:  # begin equal even if a process has drawn other random weights, as DDP does
            same = parameter.detach().to(device)
            distributed.broadcast(same, src=0)
            parameter.data.copy_(same)
    for layer in transformer_layers(module):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)


@contextmanager
def gathered(module: nn.Module) -> Generator[None]:
    """Within a block, let methods other than `forward` run on a sharded module, in every process alike."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def local_part(tensor: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return the block of a tensor that this process holds, sharing memory, and the offsets of its first element."""
    tensor = tensor.detach()
    if not isinstance(tensor, DTensor):
        return tensor, (0,) * tensor.ndim
    assert tensor.placements == (Shard(0),), f"sharded as {tensor.placements}; fully_shard cuts along the first axis"
    mesh = tensor.device_mesh
    rows = -(-tensor.shape[0] // mesh.size())  # of every process but the last ones, as torch.chunk cuts
    first = min(mesh.get_local_rank() * rows, tensor.shape[0])
    return tensor.to_local(), (first, *(0,) * (tensor.ndim - 1))


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that may be sharded as a plain one, in every process."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
