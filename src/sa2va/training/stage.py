"""Define a training stage: a module that returns loss terms, and its data.

Flow: StageConfig.build(RunContext) -> Stage -> training/trainer.py.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:  # reading a recipe needs no model library
    import torch
    from torch import nn

    from sa2va.model.processor import Processor
    from sa2va.model.sa2va import Sa2VA

# Settings that may change on resume.
FREE_FIELDS = (
    "save_every",
    "save_every_s",
    "log_every",
    "validate_every",
    "num_workers",
    "data",
    "parallel",
    "accumulate",
)
OF_THE_RUN = {"set by the recipe or the run": True}  # marks a field that no override can set

Parallel = Literal["ddp", "fsdp"]  # every process holds the whole model, or 1/W of it (FSDP2)
Key = tuple[int | str, ...]  # identifies one item of the data, including its augmentation


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Settings of one stage: duration, optimizer, saving and logging. A subclass adds those of its stage."""

    name: str = dataclasses.field(metadata=OF_THE_RUN)
    steps: int  # optimizer steps of the whole stage
    batch_size: int  # samples per step over all processes
    accumulate: int = 1  # batches per step and process, for gradient accumulation
    lr: float  # peak learning rate
    warmup_steps: int = 100  # linear, from lr / warmup_steps up to lr
    min_lr_ratio: float = 0.02  # the cosine ends at lr * min_lr_ratio
    weight_decay: float = 0.05
    decay_vectors: bool = False  # weight decay also of norms, biases and embeddings, not of matrices alone
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0  # largest gradient norm; 0 = no clipping
    save_every: int = 200  # steps between two saved states; 0 = by time only
    save_every_s: float = 120.0  # seconds between two saved states; 0 = by steps only
    log_every: int = 10  # steps averaged in one line of the log
    validate_every: int = 0  # steps between two calls of validate; 0 = never
    autocast: bool = True  # bf16 autocast (cpu and cuda)
    ema: float = 0.0  # decay of the averaged weights (EMA); 0 = off
    start_share: float = 0.0  # share of the weights before the stage in its final weights (WiSE-FT, arXiv:2109.01903)
    seed: int = dataclasses.field(default=0, metadata=OF_THE_RUN)
    num_workers: int = 1  # data loader workers; 0 = load in the training process
    origin: tuple[str, ...] = dataclasses.field(default=(), metadata=OF_THE_RUN)  # what the model of the run began as
    parallel: Parallel = dataclasses.field(default="ddp", metadata=OF_THE_RUN)  # how several processes share the model

    def __post_init__(self) -> None:
        bounds: tuple[tuple[str, float, float], ...] = (
            ("steps", 0, math.inf),
            ("batch_size", 1, math.inf),
            ("accumulate", 1, math.inf),
            ("lr", 0, math.inf),
            ("warmup_steps", 0, math.inf),
            ("min_lr_ratio", 0, 1),
            ("weight_decay", 0, math.inf),
            ("clip_norm", 0, math.inf),
            ("save_every", 0, math.inf),
            ("save_every_s", 0, math.inf),
            ("log_every", 1, math.inf),
            ("validate_every", 0, math.inf),
            ("ema", 0, 0.999999),
            ("start_share", 0, 1),
            ("seed", 0, 2**63 - 1),
            ("num_workers", 0, 64),
        )
        self.check_bounds(bounds)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"stage {self.name}: betas are {self.betas}; expected two numbers in [0, 1)")

    def check_bounds(self, bounds: Sequence[tuple[str, float, float]]) -> None:
        """Raise ValueError if a field lies outside its bounds: (field, low, high), both included."""
        for field, low, high in bounds:
            value = getattr(self, field)
            if not low <= value <= high:
                raise ValueError(f"stage {self.name}: {field} is {value}; expected {low} to {high}")

    def build(self, context: "RunContext") -> "Stage":
        """Build the stage that this config describes."""
        raise NotImplementedError(f"{type(self).__name__} describes no stage")


class StageData(Protocol):
    """Items of a stage by key. Pickled for each worker process, so it must not hold the model."""

    def keys(self, step: int) -> Sequence[Key]:
        """Return the items of the global batch of a step: a pure function of the seed and the step.

        Neighbors share a batch, see `loader.StepSampler`. A stage with an indivisible batch returns one key.
        """

    def __getitem__(self, key: Key) -> Any:
        """Prepare one item, a pure function of the key. The key also seeds the global random generators."""

    def collate(self, items: Sequence[Any]) -> Any:
        """Collate the items of one process, without random numbers."""

    def __len__(self) -> int:
        """Return the number of steps for generated data, or the number of items of a stored dataset."""


class Stage(Protocol):
    """Stage: module and data.

    Optional are `validate(step) -> dict[str, float] | None`, and `summarize(counts) -> list[dict[str, str | float]]`,
    rows of a table that is shown at the start and at the end of the stage.

    A batch is a tensor or a dataclass, whose tensors `model.batch.move` moves to the device. It may have `parts`
    (frozenset of str) and `with_parts(parts) -> batch`. The module then runs these parts of the model even if the batch
    has no rows for them. The trainer passes the union over all processes, so that all run the same graph. It may have
    `counts` (name -> int), which the trainer sums over all steps and processes and saves with the state.
    """

    @property
    def config(self) -> StageConfig: ...

    @property
    def module(self) -> "nn.Module":
        """The module to train: `forward(batch) -> dict[str, LossTerm]`; its state dict is saved.

        It may have `count_rows(batch) -> dict[str, float]`, the rows of each loss term of a batch on the CPU. Then the
        batches that a step accumulates weigh by their rows, as one large batch; else all weigh the same.
        """

    @property
    def data(self) -> StageData: ...

    def parameters(self) -> Iterable[Any]:
        """Return the parameters to optimize, or parameter groups (see `optim.parameter_groups`)."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """State shared by the stages of a run."""

    model: "Sa2VA"
    processor: "Processor"
    seed: int  # random seed of the run
    folder: Path  # folder of the run
    device: "torch.device"
    kept: "dict[str, nn.Module]" = dataclasses.field(default_factory=dict)  # auxiliary heads that later stages reuse
