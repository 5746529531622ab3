"""Estimate the memory of a training step without weights: the real forward pass on fake tensors, which hold no data.

Flow: Sa2VAConfig, SupervisedConfig, Load (what a batch holds) -> choose_trained on the meta device -> fake tensors ->
    what autograd keeps for the backward pass -> MemoryPlan, for each combination of savers.
Source: PyTorch's FakeTensorMode and saved-tensor hooks.
Shapes: T tokens of all rows, D width, P tiles, s their side, F frames for SAM 2, M mask tokens, R masks to decode.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers.modeling_layers import GradientCheckpointingLayer

from sa2va.checkpoints.footprint import count_keyframes, count_working
from sa2va.model.batch import Batch
from sa2va.model.families.catalog import find_family
from sa2va.model.families.protocol import TextInput
from sa2va.model.losses import mask_losses
from sa2va.model.sa2va import Sa2VA
from sa2va.tokens import IGNORE_INDEX
from sa2va.training.processes import runs_in_bfloat16
from sa2va.training.sharding import transformer_layers
from sa2va.training.supervised import SupervisedConfig

WORKING_COPIES = 3  # of the largest kept tensor, while its gradient is computed; measured, see benchmarks/


@dataclass(frozen=True)
class Load:
    """What the batch of one forward pass holds."""

    lengths: tuple[int, ...]  # tokens of each row
    supervised: int  # tokens with a language loss
    visual: int  # visual tokens
    pixel_shape: tuple[int, ...]  # of `Batch.pixel_values`
    grids: Tensor  # of `Batch.grids`
    frames: int  # F
    states: int  # M
    masks: int  # R
    target_shape: tuple[int, ...]  # of `Batch.seg_targets`
    nbytes: int  # of the batch itself

    @classmethod
    def of(cls, batch: Batch) -> "Load":
        tensors = (value for value in vars(batch).values() if isinstance(value, Tensor))
        return cls(
            lengths=tuple(batch.attention_mask.sum(1).tolist()),
            supervised=int((batch.labels != IGNORE_INDEX).sum()),
            visual=len(batch.visual_index),
            pixel_shape=tuple(batch.pixel_values.shape),
            grids=batch.grids,
            frames=len(batch.sam_pixel_values),
            states=len(batch.seg_positions),
            masks=len(batch.seg_rows),
            target_shape=tuple(batch.seg_targets.shape),
            nbytes=sum(tensor.nbytes for tensor in tensors),
        )


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of one process in training, in bytes."""

    weights: int
    gradients: int
    optimizer: int  # AdamW's two moments, and averaged weights (EMA) if there are some
    activations: int  # kept from the forward to the backward pass, casts of weights included
    working: int  # the largest of what lives only while it is computed
    in_bfloat16: bool  # under autocast

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.working


@dataclass(frozen=True)
class StepMemory:
    """What a step holds, in bytes, from which the plans with and without gradient checkpointing follow."""

    weights: int
    trained: int  # bytes of the trained weights
    rest: int  # bytes of the weights outside the transformer layers, which FSDP gathers for a whole step
    trained_rest: int
    batch: int
    outside: int  # kept for the backward pass outside the layers that checkpointing would run again
    inside: int  # kept in these layers
    inputs: int  # of these layers, kept by checkpointing
    largest_layer: int  # kept in one of them
    encoders: int  # working memory of frozen encoders
    largest: int  # largest kept tensor
    in_bfloat16: bool

    def plan(self, config: SupervisedConfig, num_processes: int = 1) -> MemoryPlan:
        """Return the plan of one of several processes; with `parallel=fsdp` they share weights, see sharding.py."""
        shares = num_processes if config.parallel == "fsdp" else 1
        gathered, gradients = (self.rest, self.trained_rest) if shares > 1 else (0, 0)
        again = self.largest_layer if config.gradient_checkpointing else 0
        kept = self.outside + (self.inputs if config.gradient_checkpointing else self.inside)
        return MemoryPlan(
            weights=self.weights // shares + gathered,
            gradients=self.trained // shares + gradients,
            optimizer=self.trained * (2 + bool(config.ema)) // shares,
            activations=kept + self.batch,
            working=max(self.encoders, again + WORKING_COPIES * self.largest),
            in_bfloat16=self.in_bfloat16,
        )


def measure_step(model: Sa2VA, config: SupervisedConfig, load: Load, device: torch.device) -> StepMemory:
    """Measure the memory of a step on fake tensors.

    Args:
        model: on the meta device, its trained parts chosen and memory savers applied; its tensors become fake.
        config: of the stage.
        load: of the batch of one forward pass.
        device: where it would run; a CPU encodes pictures in smaller parts.
    """
    half = runs_in_bfloat16(config, device)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    replace_tensors(model, mode)
    ledger = Ledger(model)
    model.train()
    with mode, ledger.recording(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        _run(model, config, load)
    parameters = dict.fromkeys(model.parameters())
    in_layers = {parameter for layer in transformer_layers(model) for parameter in layer.parameters()}
    rest = [parameter for parameter in parameters if parameter not in in_layers]
    return StepMemory(
        weights=sum(parameter.nbytes for parameter in parameters),
        trained=sum(parameter.nbytes for parameter in parameters if parameter.requires_grad),
        rest=sum(parameter.nbytes for parameter in rest),
        trained_rest=sum(parameter.nbytes for parameter in rest if parameter.requires_grad),
        batch=load.nbytes,
        outside=ledger.outside,
        inside=ledger.inside,
        inputs=ledger.inputs,
        largest_layer=ledger.largest_layer,
        encoders=_encoder_working(model, device) * (2 if half else 4),
        largest=ledger.largest,
        in_bfloat16=half,
    )


def replace_tensors(model: nn.Module, mode: FakeTensorMode) -> None:
    """Replace parameters and buffers, on the meta device or not, by fake tensors on a CPU; ties stay ties."""
    made: dict[int, Any] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            plain = tensor.detach()
            copy = FakeTensor(mode, plain, torch.device("cpu")) if plain.is_meta else mode.from_tensor(plain)
            is_parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(copy, requires_grad=tensor.requires_grad) if is_parameter else copy
        return made[id(tensor)]

    for module in model.modules():
        for tensors in (module.named_parameters, module.named_buffers):
            for name, tensor in list(tensors(recurse=False, remove_duplicate=False)):
                setattr(module, name, fake(tensor))


class Ledger:
    """Count the bytes that autograd keeps, outside and inside layers that gradient checkpointing would run again."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        # By id; the storages are kept alive, so that each has an id of its own.
        self._known = {id(storage): storage for storage in (p.untyped_storage() for p in model.parameters())}
        self._layers: list[int] = []  # bytes kept by each layer
        self._is_inside = False
        self.outside = self.inside = self.inputs = self.largest = 0

    @property
    def largest_layer(self) -> int:
        """Bytes that one layer keeps."""
        return max(self._layers, default=0)

    @contextmanager
    def recording(self) -> Generator[None]:
        """Count within a `with` block."""
        layers = [module for module in self._model.modules() if isinstance(module, GradientCheckpointingLayer)]
        hooks = [layer.register_forward_pre_hook(self._enter) for layer in layers]
        hooks += [layer.register_forward_hook(self._leave) for layer in layers]
        try:
            with saved_tensors_hooks(self._note, lambda tensor: tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in self._known:
            self._known[id(storage)] = storage
            size = storage.nbytes()
            self.largest = max(self.largest, size)
            if self._is_inside:
                self.inside += size
                self._layers[-1] += size
            else:
                self.outside += size
        return tensor

    def _enter(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._is_inside = True
        self._layers.append(0)
        given = [each for each in inputs if isinstance(each, Tensor) and each.requires_grad]
        self.inputs += sum(each.untyped_storage().nbytes() for each in given)

    def _leave(self, *_: object) -> None:
        self._is_inside = False


def _run(model: Sa2VA, config: SupervisedConfig, load: Load) -> None:
    """Run the parts of `Sa2VA.forward` that keep something, on fake tensors of the sizes of a batch.

    Image encoders for pictures of any size read sizes from data, which fake tensors lack. They are left out: only their
    small mergers can be trained.
    """
    mllm, sam2 = model.mllm, model.sam2
    mllm.fix_positions()  # which would read the largest position
    takes_any_size = find_family(model.config.family).takes_any_size
    number = sum(load.lengths)
    embeds = mllm.embed_tokens(torch.zeros(1, number, dtype=torch.long))
    encoded = (mllm.vision_tower, mllm.vision_projector)
    if load.visual and not takes_any_size and any(p.requires_grad for part in encoded for p in part.parameters()):
        visual = mllm.encode_images(torch.zeros(load.pixel_shape), load.grids)
        embeds = torch.cat([visual.tokens[: load.visual].to(embeds)[None], embeds[:, load.visual :]], dim=1)
    is_3d = mllm.native.config.get_text_config().to_dict().get("rope_parameters", {}).get("mrope_section")
    positions = torch.zeros((3, 1, number) if is_3d else (1, number), dtype=torch.long)
    inputs = TextInput(
        embeds=embeds if embeds.requires_grad else embeds.requires_grad_(),
        attention_mask=torch.ones(1, number, dtype=torch.long),
        position_ids=positions,
        lengths=load.lengths,
    )
    states = mllm.run_text(inputs)
    logits = mllm.logits(states[0, : load.supervised]).float()
    F.cross_entropy(logits, torch.zeros(load.supervised, dtype=torch.long), reduction="none").sum()
    if not load.masks:
        return
    prompts = model.projector(states[0, : load.states])
    if any(parameter.requires_grad for parameter in sam2.native.vision_encoder.parameters()):
        frames = sam2.encode_frames(torch.zeros(load.frames, 3, sam2.size, sam2.size))
    else:
        sides = [sam2.size // stride for stride in (4, 8, 16)]
        frames = sam2.project_maps([torch.zeros(load.frames, sam2.width, side, side) for side in sides])
    rows = torch.zeros(load.masks, 3, dtype=torch.long)
    output = model.decode_prompts(prompts, frames, rows)
    targets = torch.zeros(load.target_shape, dtype=torch.bool)
    mask_losses(output, targets, config.losses, torch.zeros(load.masks, dtype=torch.long))


def _encoder_working(model: Sa2VA, device: torch.device) -> int:
    """Return the peak number of activations of the frozen encoders, see footprint.py."""
    mllm = count_working(model.config, model.mllm.native.config, device)
    return max(mllm, count_keyframes(model.config, model.sam2.width, device))
