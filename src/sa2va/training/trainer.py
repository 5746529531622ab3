"""Train one stage with Accelerate or FSDP2: forward, backward, update, log, save; resume an interrupted stage.

Flow: StageConfig.build -> Stage -> run_stage -> `<folder>/<stage>/state-*` while it runs, `final` after it.
    The loss is a sum of terms, each a weighted mean over the rows of all processes and accumulated batches, so that the
    gradient does not depend on how the rows are distributed.
"""

import dataclasses
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sa2va.model.batch import move
from sa2va.model.losses import LossTerm
from sa2va.model.torch_defaults import plain_defaults
from sa2va.training.loader import check_share, load_batches
from sa2va.training.logger import RunLogger
from sa2va.training.meter import Meter
from sa2va.training.optim import (
    average_tensors,
    averaged,
    blend_tensors,
    build_average,
    build_optimizer,
    build_schedule,
    copies,
    copy_tensors,
    trained_parameters,
)
from sa2va.training.processes import build_accelerator, is_lost_process, is_main_process
from sa2va.training.provenance import find_commit
from sa2va.training.seeding import seed_all, seeded
from sa2va.training.sharding import gathered, shard_module, whole
from sa2va.training.signals import Signals, deferred_signals, ignore_launcher
from sa2va.training.stage import FREE_FIELDS, Stage, StageConfig
from sa2va.training.state import (
    FINAL,
    State,
    latest_state,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    read_state,
    save_state,
)

MAX_BAD_STEPS = 10  # consecutive non-finite steps that end a run
INTERRUPTED = 130  # exit code after SIGINT or SIGTERM


@plain_defaults()
def run_stage(stage: Stage, folder: str | Path, device: str | torch.device, logger: RunLogger) -> None:
    """Train a stage to its end, resuming from a state in `<folder>/<stage name>` if there is one.

    For a finished stage, only its final weights (averaged ones if ema is on) are loaded into the module.
    SIGINT, SIGTERM and SIGHUP save at the end of the current step and exit with code 130.

    Raises:
        ValueError: a state is damaged or of another config, or losses stay non-finite.
        ConnectionError: another process of the run has ended.
    """
    config = stage.config
    if config.validate_every and getattr(stage, "validate", None) is None:
        raise ValueError(
            f"stage {config.name} has no validation; leave out validate_every.{config.name} or set it to 0"
        )
    folder = Path(folder) / config.name
    if restore_finished(stage, folder):
        logger.note(f"{config.name}: done already, its weights are loaded")
        return
    try:
        with deferred_signals() as signals:
            run = _StageRun(stage, folder, torch.device(device), logger)
            try:
                run.restore()
                logger.start_stage(config, run.step)
                run.train(signals)
            finally:
                logger.end_stage()
                run.release()
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        ignore_launcher()
        saved = latest_state(folder) or f"the start of stage {config.name}"
        raise ConnectionError(f"another process of the run has ended; the same command resumes from {saved}") from error


def restore_finished(stage: Stage, folder: Path) -> bool:
    """Load the final weights of a stage into its module, if it has been trained to its end.

    Args:
        stage: on any device.
        folder: folder of the stage.

    Raises:
        ValueError: the weights are damaged, or of another config.
    """
    path = latest_state(folder)
    if path is None or path.name != FINAL:
        return False
    state = read_state(path)
    _check_config(stage.config, state.record["config"], path, finished=True)
    state.fill("weights", module_tensors(stage.module))
    return True


def fit_stage(stage: Stage) -> None:
    """Train a stage on the CPU without saving a state; restore the random generators afterwards."""
    with tempfile.TemporaryDirectory() as scratch, seeded(stage.config.seed):
        with RunLogger(scratch, main=False) as logger:
            run_stage(stage, scratch, "cpu", logger)


class _StageRun:
    """Running stage: model, optimizer, averaged weights and counters."""

    def __init__(self, stage: Stage, folder: Path, device: torch.device, logger: RunLogger) -> None:
        self.stage, self.folder, self.device, self.logger = stage, folder, device, logger
        self.config, self.module = stage.config, stage.module
        self.accelerator = build_accelerator(self.config, device)
        check_share(stage.data, self.config, 0, self.accelerator.num_processes)
        self.is_sharded = self.config.parallel == "fsdp"
        if self.is_sharded:
            shard_module(self.module, device)
        else:
            self.module.to(device)
        self.optimizer = build_optimizer(self.module, stage.parameters(), self.config)
        prepared = self.module if self.is_sharded else self.accelerator.prepare(self.module, device_placement=[False])
        self.model: Callable[[Any], dict[str, LossTerm]] = prepared
        self.trained = trained_parameters(self.module, self.optimizer)
        self.weights = torch.nn.ParameterList(self.trained.values())
        self.average = build_average(self.weights, self.config.ema) if self.config.ema else None
        # Before `restore`, the weights are those that the stage began with, in a resumed run as well.
        self.initial = copies(self.trained) if self.config.start_share else None
        self.meter = Meter()
        self.counts: Counter[str] = Counter()  # sums of Batch.counts; the main process also has those of earlier runs
        self.step = 0  # number of finished steps
        self.skipped = 0  # updates left out because the loss or gradient was not finite
        self.bad_in_a_row = 0
        self.train_s = 0.0  # seconds of training so far, earlier runs included
        self.wait_s = 0.0  # seconds spent waiting for batches since the last log line

    def release(self) -> None:
        """Unwrap the module from Accelerate's wrappers and free its memory; a sharded module stays sharded."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        for name in ("forward", "_is_accelerate_prepared"):  # left on the module, which a later stage may train
            vars(self.module).pop(name, None)

    # --- state ---

    def restore(self) -> None:
        """Load the newest state, if there is one."""
        path = latest_state(self.folder)
        if path is None:
            return
        state = read_state(path)
        _check_config(self.config, state.record["config"], path, finished=False)
        state.fill("weights", module_tensors(self.module))
        load_optimizer(self.module, self.optimizer, state)
        if self.average is not None:
            state.fill("ema", average_tensors(self.average, self.trained))
            self.average.n_averaged.fill_(state.record["ema_updates"])
        self.step = state.step
        self.skipped, self.bad_in_a_row = state.record["skipped"], state.record["bad_in_a_row"]
        self.train_s = state.record["train_s"]
        self.meter.from_json(state.record["meter"], self.device)
        if is_main_process():
            self.counts.update(state.record["counts"])

    def save(self, *, final: bool = False) -> None:
        """Write the current state, or the final weights, which mark the stage as finished."""
        record = {"config": dataclasses.asdict(self.config), "skipped": self.skipped, "train_s": self.train_s}
        record |= {"counts": self.total_counts(), "commit": find_commit()}
        parts = {"weights": module_tensors(self.module)}
        if not final:
            parts["optimizer"] = optimizer_tensors(self.module, self.optimizer)
            record |= {"bad_in_a_row": self.bad_in_a_row, "meter": self.meter.to_json(), "ema_updates": 0}
            if self.average is not None:
                parts["ema"] = average_tensors(self.average, self.trained)
                record["ema_updates"] = int(self.average.n_averaged)
        save_state(self.folder, State(self.step, record, parts), name=FINAL if final else None)
        self.accelerator.wait_for_everyone()

    # --- training ---

    def train(self, signals: Signals) -> None:
        """Run the remaining steps, then write the final weights."""
        config, accelerator = self.config, self.accelerator
        schedule = build_schedule(self.optimizer, config, self.step)
        steps = range(self.step, config.steps)
        batches = load_batches(
            self.stage.data, config, steps, rank=accelerator.process_index, num_processes=accelerator.num_processes,
            read_ahead=self.device.type == "cuda",
        )  # fmt: skip
        self.summarize()
        saved_at = logged_at = last = time.monotonic()
        saved_step = logged_step = self.step
        with closing(batches):
            for step in steps:
                self.take_step(step, batches)
                lr = float(schedule.get_last_lr()[0])
                schedule.step()
                self.step = step + 1
                now = time.monotonic()
                self.train_s, last = self.train_s + now - last, now
                self.logger.advance(self.step)
                if self.step % config.log_every == 0 or self.step == config.steps:
                    self.log(lr, num_steps=self.step - logged_step, seconds=now - logged_at)
                    logged_at, logged_step = now, self.step
                if config.validate_every and self.step % config.validate_every == 0:
                    self.validate()
                late = bool(config.save_every_s) and time.monotonic() - saved_at >= config.save_every_s
                interrupted, due = self.agree(signals.arrived, late)
                due = due or (bool(config.save_every) and self.step - saved_step >= config.save_every)
                if interrupted or (due and self.step < config.steps):
                    self.save()
                    saved_at, saved_step = time.monotonic(), self.step
                if interrupted:
                    self.logger.note(f"{config.name}: interrupted, saved at step {self.step} in {self.folder}")
                    raise SystemExit(INTERRUPTED)
        if self.average is not None:
            copy_tensors(average_tensors(self.average, self.trained), self.trained)
        if self.initial is not None:
            blend_tensors(self.initial, self.trained, config.start_share)
        self.save(final=True)
        self.summarize()

    def take_step(self, step: int, batches: Iterator[Any]) -> None:
        """Run forward and backward of each batch of the step, then one update."""
        config, accelerator = self.config, self.accelerator
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        figures: list[tuple[str, Tensor, Tensor]] = []
        one = torch.ones((), device=self.device)
        began = time.monotonic()
        parts = [next(batches) for _ in range(config.accumulate)]
        self.wait_s += time.monotonic() - began
        for batch in parts:
            self.counts.update(getattr(batch, "counts", {}))
        for part, (batch, shares) in enumerate(zip(parts, self.row_shares(parts), strict=True)):
            seed_all(config.seed, config.name, "losses", step, accelerator.process_index, part)
            is_last = part == config.accumulate - 1
            with nullcontext() if is_last or self.is_sharded else accelerator.no_sync(self.model):
                with accelerator.autocast():
                    terms = self.model(self.to_device(batch))
                loss, found = self.combine(terms, shares)
                accelerator.backward(loss)
            figures += found
        norm = whole(torch.nn.utils.clip_grad_norm_(self.trained.values(), config.clip_norm or math.inf))
        figures.append(("grad_norm", norm.detach(), one))
        # A single finiteness test needs only one synchronization with the device.
        if not torch.isfinite(norm + sum(total for name, total, _ in figures if name == "total")):
            self.skip(figures)
            return
        self.bad_in_a_row = 0
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.weights)
        for figure in figures:
            self.meter.add(*figure)

    def row_shares(self, batches: Sequence[Any]) -> list[dict[str, float]]:
        """Return for each batch of a step its share of the rows of each term, over all processes.

        The counts are needed before the first backward pass, so the module tells them from the batch alone; see
        `Stage.module`.
        """
        count: Callable[[Any], dict[str, float]] | None = getattr(self.module, "count_rows", None)
        if len(batches) == 1 or count is None:
            return [{}] * len(batches)
        rows = [count(batch) for batch in batches]
        names = sorted(rows[0])
        counts = torch.tensor([[each[name] for name in names] for each in rows], device=self.device)
        counts = self.accelerator.reduce(counts.float(), "sum")
        shares = (counts / counts.sum(0).clamp(min=1)).tolist()
        return [dict(zip(names, values, strict=True)) for values in shares]

    def to_device(self, batch: Any) -> Any:
        """Return a batch on the device, with the parts that any process runs in this step."""
        if self.accelerator.num_processes > 1 and hasattr(batch, "parts"):
            from accelerate.utils import gather_object

            batch = batch.with_parts(frozenset(gather_object(sorted(batch.parts))))
        return move(batch, self.device)

    def combine(
        self, terms: dict[str, LossTerm], shares: dict[str, float]
    ) -> tuple[Tensor, list[tuple[str, Tensor, Tensor]]]:
        """Return the loss to minimize, and the sum and count of each term over all processes, the loss as "total".

        The loss of this process is multiplied by the number of processes, because their gradients are averaged.

        Args:
            terms: of one batch of the step.
            shares: share of the batch in the rows of the step, by term; 1 / accumulate where none is given.
        """
        names, one = sorted(terms), torch.ones((), device=self.device)
        totals = torch.stack([terms[name].total.float() for name in names])
        counts = torch.stack([one * terms[name].count for name in names])
        even = 1 / self.config.accumulate
        weights = torch.stack([one * terms[name].weight * shares.get(name, even) for name in names])
        sums, counts = self.accelerator.reduce(torch.stack([totals.detach(), counts]), "sum")
        scales = torch.where(counts > 0, weights / counts.where(counts > 0, 1), 0)
        loss = (totals * scales).sum() * self.accelerator.num_processes
        total = ("total", (sums * scales).sum(), one * even)  # the batches of a step add up to its loss
        return loss, [*zip(names, sums, counts, strict=True), total]

    def agree(self, *flags: bool) -> list[bool]:
        """Reduce each flag over the processes with "any"."""
        if self.accelerator.num_processes == 1:
            return list(flags)
        return (self.accelerator.reduce(torch.tensor(flags, dtype=torch.float, device=self.device), "sum") > 0).tolist()

    def total_counts(self) -> dict[str, int]:
        """Sum the counts of all processes, which all call this."""
        if self.accelerator.num_processes == 1:
            return dict(self.counts)
        from accelerate.utils import gather_object

        total: Counter[str] = Counter()
        for counts in gather_object([dict(self.counts)]):
            total.update(counts)
        return dict(total)

    def summarize(self) -> None:
        """Show the stage's table of what was drawn so far, if it has one."""
        if (summarize := getattr(self.stage, "summarize", None)) is not None:
            self.logger.table(self.config.name, self.step, summarize(self.total_counts()))

    def skip(self, figures: list[tuple[str, Tensor, Tensor]]) -> None:
        """Count a non-finite step; raise ValueError after MAX_BAD_STEPS consecutive ones."""
        self.skipped += 1
        self.bad_in_a_row += 1
        if self.bad_in_a_row >= MAX_BAD_STEPS:
            means = ", ".join(f"{name} {(total / count.clamp(min=1)).item():.3g}" for name, total, count in figures)
            raise ValueError(
                f"stage {self.config.name}: {MAX_BAD_STEPS} non-finite steps in a row before step {self.step + 1} "
                f"({means}); lower lr.{self.config.name} or set autocast to false"
            )

    def log(self, lr: float, *, num_steps: int, seconds: float) -> None:
        """Log the means since the last record; the speed is that of the last `num_steps` steps."""
        means = self.meter.means()
        self.meter = Meter()
        record = {
            "stage": self.config.name,
            "step": self.step,
            "grad_norm": means.pop("grad_norm", None),
            "losses": means,
            "lr": lr,
            "seconds": round(self.train_s, 3),
            "samples_per_s": round(self.config.batch_size * num_steps / max(seconds, 1e-9), 2),
            "wait_s": round(self.wait_s, 4),
            "skipped": self.skipped,
            "counts": self.total_counts(),
        }
        self.wait_s = 0.0
        self.logger.log(record)

    @torch.no_grad()
    def validate(self) -> None:
        """Call the stage's validation, with the averaged weights if there are any."""
        seed_all(self.config.seed, self.config.name, "validation", self.step)
        self.module.eval()
        validate: Callable[[int], dict[str, float] | None] = getattr(self.stage, "validate")  # noqa: B009
        with averaged(self.average, self.trained), gathered(self.module), self.accelerator.autocast():
            figures = validate(self.step)
        self.module.train()
        if figures:
            self.logger.validation(self.config.name, self.step, figures)


def _check_config(config: StageConfig, saved: dict[str, Any], path: Path, *, finished: bool) -> None:
    """Refuse a state of another config; steps may increase, and FREE_FIELDS may change."""
    for field, value in dataclasses.asdict(config).items():
        before = saved.get(field)
        same = json.loads(json.dumps(value)) == before  # as it was saved: nested tuples become lists
        grew = field == "steps" and not finished and isinstance(before, int) and value >= before
        if not (same or grew or field in FREE_FIELDS):
            raise ValueError(
                f"{path}: {field} of stage {config.name} was {before} and is now {value}; "
                f"give the same value, or delete {path.parent} to train the stage anew"
            )
