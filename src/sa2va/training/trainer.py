"""Train one stage with Accelerate: forward, backward, update, log, save; resume an interrupted stage.

Flow: StageConfig.build -> Stage -> run_stage -> `<folder>/<stage>/state-*` while it runs, `final` after it.
    The loss is a sum of terms, each a weighted mean over the rows of all processes, so that the gradient does not
    depend on how the rows are distributed.
"""

import dataclasses
import math
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sa2va.model.batch import move
from sa2va.model.losses import LossTerm
from sa2va.model.torch_defaults import plain_defaults
from sa2va.training.loader import load_batches
from sa2va.training.logger import RunLogger
from sa2va.training.optim import (
    average_tensors,
    averaged,
    build_average,
    build_optimizer,
    build_schedule,
    copy_tensors,
    trained_parameters,
)
from sa2va.training.processes import build_accelerator, is_main_process
from sa2va.training.seeding import seed_all, seeded
from sa2va.training.stage import FREE_FIELDS, Stage, StageConfig
from sa2va.training.state import (
    FINAL,
    State,
    latest_state,
    load_module_tensors,
    load_optimizer_tensors,
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
    """
    if stage.config.validate_every and getattr(stage, "validate", None) is None:
        name = stage.config.name
        raise ValueError(f"stage {name} has no validation; leave out validate_every.{name} or set it to 0")
    run = _StageRun(stage, Path(folder) / stage.config.name, torch.device(device), logger)
    try:
        if run.restore():
            logger.note(f"{stage.config.name}: done already, its weights are loaded")
            return
        logger.start_stage(stage.config, run.step)
        try:
            with _deferred_signals() as signals:
                run.train(signals)
        finally:
            logger.end_stage()
    finally:
        run.release()


def fit_stage(stage: Stage) -> None:
    """Train a stage on the CPU without saving a state; restore the random generators afterwards."""
    with tempfile.TemporaryDirectory() as scratch, seeded(stage.config.seed):
        with RunLogger(scratch, main=False) as logger:
            run_stage(stage, scratch, "cpu", logger)


class _Meter:
    """Running sums of loss terms since the last log line. They are saved, so a resumed run logs the same lines."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor, count: Tensor) -> None:
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.counts[name] = self.counts[name] + count if name in self.counts else count

    def means(self) -> dict[str, float]:
        """Return the mean of each term that has rows."""
        return {name: (self.sums[name] / count).item() for name, count in self.counts.items() if count > 0}

    def to_json(self) -> dict[str, dict[str, float]]:
        return {name: {key: value.item() for key, value in vars(self)[name].items()} for name in ("sums", "counts")}

    def from_json(self, record: dict[str, dict[str, float]], device: torch.device) -> None:
        for name in ("sums", "counts"):
            vars(self)[name] = {key: torch.tensor(value, device=device) for key, value in record[name].items()}


class _Signals:
    """Signal handler that records the arrival of SIGINT, SIGTERM or SIGHUP."""

    def __init__(self) -> None:
        self.arrived = False

    def __call__(self, number: int, frame: object) -> None:
        if self.arrived:
            raise KeyboardInterrupt  # second signal: stop now; the last saved state remains
        self.arrived = True


@contextmanager
def _deferred_signals() -> Generator[_Signals]:
    """Within a `with` block, defer the signals that end a run (in the main thread only)."""
    signals = _Signals()
    kept: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            numbers.append(signal.SIGHUP)
        kept = {number: signal.signal(number, signals) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


class _StageRun:
    """Running stage: model, optimizer, averaged weights and counters."""

    def __init__(self, stage: Stage, folder: Path, device: torch.device, logger: RunLogger) -> None:
        self.stage, self.folder, self.device, self.logger = stage, folder, device, logger
        self.config = stage.config
        self.module = stage.module.to(device)
        self.accelerator = build_accelerator(self.config, device)
        self.optimizer = build_optimizer(self.module, stage.parameters(), self.config)
        self.model, self.stepper = self.accelerator.prepare(self.module, self.optimizer, device_placement=[False] * 2)
        self.trained = trained_parameters(self.module, self.optimizer)
        self.weights = torch.nn.ParameterList(self.trained.values())
        self.average = build_average(self.weights, self.config.ema) if self.config.ema else None
        self.meter = _Meter()
        self.counts: Counter[str] = Counter()  # sums of Batch.counts; the main process also has those of earlier runs
        self.step = 0  # number of finished steps
        self.skipped = 0  # updates left out because the loss or gradient was not finite
        self.bad_in_a_row = 0
        self.train_s = 0.0  # seconds of training so far, earlier runs included
        self.wait_s = 0.0  # seconds spent waiting for batches since the last log line

    def release(self) -> None:
        """Unwrap the module from Accelerate's wrappers and free its memory."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        for name in ("forward", "_is_accelerate_prepared"):  # left on the module, which a later stage may train
            vars(self.module).pop(name, None)

    # --- state ---

    def restore(self) -> bool:
        """Load the newest state; return True if the stage is finished."""
        path = latest_state(self.folder)
        if path is None:
            return False
        state = read_state(path)
        finished = path.name == FINAL
        _check_config(self.config, state.record["config"], path, finished=finished)
        load_module_tensors(self.module, state.parts["weights"], source=path)
        if finished:
            return True
        try:
            load_optimizer_tensors(self.module, self.optimizer, state.parts.get("optimizer", {}))
            if self.average is not None:
                copy_tensors(state.parts.get("ema", {}), average_tensors(self.average, self.trained))
                self.average.n_averaged.fill_(state.record["ema_updates"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}; train the same parameters or use a new output folder") from error
        self.step = state.step
        self.skipped, self.bad_in_a_row = state.record["skipped"], state.record["bad_in_a_row"]
        self.train_s = state.record["train_s"]
        self.meter.from_json(state.record["meter"], self.device)
        if is_main_process():
            self.counts.update(state.record["counts"])
        return False

    def save(self, *, final: bool = False) -> None:
        """Write the current state, or the final weights, which mark the stage as finished."""
        record = {"config": dataclasses.asdict(self.config), "skipped": self.skipped, "train_s": self.train_s}
        record["counts"] = self.total_counts()
        parts = {"weights": module_tensors(self.module)}
        if not final:
            parts["optimizer"] = optimizer_tensors(self.module, self.optimizer)
            record |= {"bad_in_a_row": self.bad_in_a_row, "meter": self.meter.to_json(), "ema_updates": 0}
            if self.average is not None:
                parts["ema"] = average_tensors(self.average, self.trained)
                record["ema_updates"] = int(self.average.n_averaged)
        if is_main_process():
            save_state(self.folder, State(self.step, record, parts), name=FINAL if final else None)
        self.accelerator.wait_for_everyone()

    # --- training ---

    def train(self, signals: "_Signals") -> None:
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
        self.save(final=True)
        self.summarize()

    def take_step(self, step: int, batches: Iterator[Any]) -> None:
        """Run forward and backward of each batch of the step, then one update."""
        config, accelerator = self.config, self.accelerator
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        figures: list[tuple[str, Tensor, Tensor]] = []
        one = torch.ones((), device=self.device)
        for part in range(config.accumulate):
            batch = self.next_batch(batches)
            seed_all(config.seed, config.name, "losses", step, accelerator.process_index, part)
            with accelerator.accumulate(self.model):
                loss, terms = self.combine(self.model(batch))
                accelerator.backward(loss)
            figures += terms
        norm = accelerator.clip_grad_norm_(self.trained.values(), config.clip_norm or math.inf)
        figures.append(("grad_norm", norm.detach(), one))
        # A single finiteness test needs only one synchronization with the device.
        if not torch.isfinite(norm + sum(total for name, total, _ in figures if name == "total")):
            self.skip(figures)
            return
        self.bad_in_a_row = 0
        self.stepper.step()
        if self.average is not None:
            self.average.update_parameters(self.weights)
        for figure in figures:
            self.meter.add(*figure)

    def next_batch(self, batches: Iterator[Any]) -> Any:
        """Return the next batch on the device, with the parts that any process runs in this step."""
        began = time.monotonic()
        batch = next(batches)
        self.wait_s += time.monotonic() - began
        self.counts.update(getattr(batch, "counts", {}))
        if self.accelerator.num_processes > 1 and hasattr(batch, "parts"):
            from accelerate.utils import gather_object

            batch = batch.with_parts(frozenset(gather_object(sorted(batch.parts))))
        return move(batch, self.device)

    def combine(self, terms: dict[str, LossTerm]) -> tuple[Tensor, list[tuple[str, Tensor, Tensor]]]:
        """Return the loss to minimize, and the sum and count of each term over all processes, the loss as "total".

        The loss of this process is multiplied by the number of processes, because their gradients are averaged.
        """
        names, one = sorted(terms), torch.ones((), device=self.device)
        totals = torch.stack([terms[name].total.float() for name in names])
        counts = torch.stack([one * terms[name].count for name in names])
        weights = torch.stack([one * terms[name].weight for name in names])
        sums, counts = self.accelerator.reduce(torch.stack([totals.detach(), counts]), "sum")
        scales = torch.where(counts > 0, weights / counts.where(counts > 0, 1), 0)
        loss = (totals * scales).sum() * self.accelerator.num_processes
        return loss, [*zip(names, sums, counts, strict=True), ("total", (sums * scales).sum(), one)]

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
        self.meter = _Meter()
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
        with averaged(self.average, self.trained), self.accelerator.autocast():
            figures = validate(self.step)
        self.module.train()
        if figures:
            self.logger.validation(self.config.name, self.step, figures)


def _check_config(config: StageConfig, saved: dict[str, Any], path: Path, *, finished: bool) -> None:
    """Refuse a state of another config; steps may increase, and FREE_FIELDS may change."""
    for field, value in dataclasses.asdict(config).items():
        before = saved.get(field)
        same = value == before or (isinstance(value, tuple) and before is not None and list(value) == list(before))
        grew = field == "steps" and not finished and isinstance(before, int) and value >= before
        if not (same or grew or field in FREE_FIELDS):
            raise ValueError(
                f"{path}: {field} of stage {config.name} was {before} and is now {value}; "
                f"give the same value, or delete {path.parent} to train the stage anew"
            )
