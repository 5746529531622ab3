"""Run one training stage: prefetch, forward, backward, update, log, save; resume where a killed run stopped.

Flow: recipes.py (a Stage per StageConfig) -> run_stage -> `<folder>/<stage>/state-*` while it runs, `final` after it.
"""

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sa2va.checkpoints.device import choose_device, multiplies_bfloat16
from sa2va.model.torch_defaults import plain_defaults
from sa2va.training.batches import to_device
from sa2va.training.config import RunConfig
from sa2va.training.logger import RunLogger
from sa2va.training.optim import (
    Ema,
    build_optimizer,
    clip_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
    schedule_factor,
    set_lr,
    trained_parameters,
)
from sa2va.training.prefetch import Prefetcher, SeededSource
from sa2va.training.seeding import seed_step
from sa2va.training.stage import FREE_FIELDS, StageConfig
from sa2va.training.state import FINAL, State, latest_state, load_weights, module_weights, read_state, save_state

MAX_BAD_STEPS = 10  # non-finite steps in a row before a run gives up
INTERRUPTED = 130  # exit code after SIGINT or SIGTERM


class Stage(Protocol):
    """What is trained, on what, towards what. `validate(step) -> dict[str, float] | None` is optional."""

    config: StageConfig

    @property
    def batch(self) -> Callable[[int], Any]:
        """Prepare the batch of a step: CPU work, a pure function of (seed, step), run in a worker process.

        A method will do; a callable attribute that does not hold the model starts faster.
        """

    def module(self) -> nn.Module:
        """Return the module whose weights are saved."""

    def parameters(self) -> Iterable[Any]:
        """Return what is optimised: parameters of `module()`, or groups (see `optim.parameter_groups`)."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return scalar losses of a batch, on the device; "total" is the one that is minimised."""


@plain_defaults()
def run_stage(stage: Stage, folder: str | Path, device: str | torch.device, logger: RunLogger) -> None:
    """Train a stage to its end, resuming from `<folder>/<stage name>` when a state is there.

    A finished stage only has its final weights (averaged ones, when ema is on) loaded into the module.
    SIGINT and SIGTERM save at the end of the current step and exit with code 130.

    Raises:
        ValueError: one line; a state that is damaged or of another config, or losses that stay non-finite.
    """
    run = _StageRun(stage, Path(folder) / stage.config.name, torch.device(device), logger)
    if run.restore():
        logger.note(f"{stage.config.name}: done already, its weights are loaded")
        return
    logger.start_stage(stage.config, run.step)
    try:
        with _deferred_signals() as signals:
            run.train(signals)
    finally:
        logger.end_stage()


def prepare_process(config: RunConfig) -> torch.device:
    """Set the number of CPU threads and return the device of a run.

    On a GPU cuDNN's attention rests: it makes a plan for every new shape of a batch, and no two batches are alike.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    if config.threads:
        torch.set_num_threads(config.threads)
    return choose_device(config.device)


def is_done(folder: str | Path, stage: str) -> bool:
    """Tell whether a stage of the run in `folder` has finished."""
    return (Path(folder) / stage / FINAL).is_dir()


class _Meter:
    """Sum losses on the device since the last line of the log; part of the saved state, so a resume changes no line."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: total.item() / self.counts[name] for name, total in self.sums.items()}

    def clear(self) -> None:
        self.sums, self.counts = {}, {}

    def to_json(self) -> dict[str, Any]:
        return {"sums": {name: total.item() for name, total in self.sums.items()}, "counts": self.counts}

    def from_json(self, record: dict[str, Any], device: torch.device) -> None:
        self.sums = {name: torch.tensor(total, device=device) for name, total in record["sums"].items()}
        self.counts = dict(record["counts"])


class _Signals:
    """Whether SIGINT, SIGTERM or SIGHUP has arrived."""

    def __init__(self) -> None:
        self.arrived = False

    def __call__(self, number: int, frame: object) -> None:
        if self.arrived:
            raise KeyboardInterrupt  # asked twice: stop now, the last saved state stays
        self.arrived = True


@contextmanager
def _deferred_signals() -> Generator[_Signals]:
    """Catch the signals that end a run for the length of a `with` block (only the main thread can)."""
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
    """One run of one stage: the moving parts between two saved states."""

    def __init__(self, stage: Stage, folder: Path, device: torch.device, logger: RunLogger) -> None:
        self.stage, self.folder, self.device, self.logger = stage, folder, device, logger
        self.config = stage.config
        self.module = stage.module().to(device)
        self.optimizer = build_optimizer(self.module, stage.parameters(), self.config)
        self.trained = trained_parameters(self.optimizer)
        self.ema = Ema(self.trained, self.config.ema) if self.config.ema else None
        self.meter = _Meter()
        self.step = 0  # steps that are done
        self.skipped = 0  # updates left out because something was not finite
        self.bad_in_a_row = 0
        self.train_s = 0.0  # seconds of training up to here, earlier runs included
        self.wait_s = 0.0  # seconds spent waiting for batches since the last log line

    # --- state ---

    def restore(self) -> bool:
        """Load the newest state; True when the stage is finished."""
        path = latest_state(self.folder)
        if path is None:
            return False
        state = read_state(path)
        finished = path.name == FINAL
        _check_config(self.config, state.record["config"], path, finished=finished)
        load_weights(self.module, state.parts["weights"], source=path)
        if finished:
            return True
        try:
            load_optimizer_tensors(self.optimizer, state.parts.get("optimizer", {}))
            if self.ema is not None:
                self.ema.load(state.parts.get("ema", {}), state.record["ema_updates"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}; train the same parameters or use a new output folder") from error
        self.step = state.step
        self.skipped, self.bad_in_a_row = state.record["skipped"], state.record["bad_in_a_row"]
        self.train_s = state.record["train_s"]
        self.meter.from_json(state.record["meter"], self.device)
        return False

    def save(self) -> None:
        """Write the present state."""
        record = {
            "config": dataclasses.asdict(self.config),
            "skipped": self.skipped,
            "bad_in_a_row": self.bad_in_a_row,
            "train_s": self.train_s,
            "meter": self.meter.to_json(),
            "ema_updates": self.ema.num_updates if self.ema else 0,
        }
        parts = {"weights": module_weights(self.module), "optimizer": optimizer_tensors(self.optimizer)}
        if self.ema is not None:
            parts["ema"] = self.ema.average
        save_state(self.folder, State(self.step, record, parts))

    def finish(self) -> None:
        """Write the final weights, which mark the stage as done."""
        if self.ema is not None:
            self.ema.copy_to_model()
        record = {"config": dataclasses.asdict(self.config), "skipped": self.skipped, "train_s": self.train_s}
        save_state(self.folder, State(self.step, record, {"weights": module_weights(self.module)}), name=FINAL)

    # --- training ---

    def train(self, signals: _Signals) -> None:
        """Take every step that is left, then finish."""
        config = self.config
        source = SeededSource(self.stage.batch, config.seed, config.name)
        with Prefetcher(source, self.step, config.steps, num_workers=config.num_workers) as batches:
            saved_at, saved_step, logged_at = time.monotonic(), self.step, time.monotonic()
            last, logged_step = logged_at, self.step
            for step, batch in _timed(batches, self):
                self.take_step(step, batch)
                self.step = step + 1
                now = time.monotonic()
                self.train_s, last = self.train_s + now - last, now
                self.logger.advance(self.step)
                if self.step % config.log_every == 0 or self.step == config.steps:
                    self.log(num_steps=self.step - logged_step, seconds=now - logged_at)
                    logged_at, logged_step = now, self.step
                if config.validate_every and self.step % config.validate_every == 0:
                    self.validate()
                due = config.save_every and self.step - saved_step >= config.save_every
                due = due or (config.save_every_s and time.monotonic() - saved_at >= config.save_every_s)
                if signals.arrived or (due and self.step < config.steps):
                    self.save()
                    saved_at, saved_step = time.monotonic(), self.step
                if signals.arrived:
                    self.logger.note(f"{config.name}: interrupted, saved at step {self.step} in {self.folder}")
                    raise SystemExit(INTERRUPTED)
        self.finish()

    def take_step(self, step: int, batch: Any) -> None:
        """Forward, backward and update."""
        config = self.config
        self.module.train()
        seed_step(config.seed, config.name, step, salt=1)
        set_lr(
            self.optimizer,
            schedule_factor(
                step, steps=config.steps, warmup_steps=config.warmup_steps, min_lr_ratio=config.min_lr_ratio
            ),
        )
        with self.autocast():
            losses = self.stage.losses(to_device(batch, self.device))
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        norm = clip_gradients(self.trained.values(), config.clip_norm)
        # one test, hence one wait for the device
        if not torch.isfinite(losses["total"].detach() + norm):
            self.skip(losses, norm)
            return
        self.bad_in_a_row = 0
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        self.meter.add({**losses, "grad_norm": norm})

    def skip(self, losses: dict[str, Tensor], norm: Tensor) -> None:
        """Count a step that cannot be used; give up after too many in a row."""
        self.skipped += 1
        self.bad_in_a_row += 1
        if self.bad_in_a_row >= MAX_BAD_STEPS:
            figures = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
            raise ValueError(
                f"stage {self.config.name}: {MAX_BAD_STEPS} non-finite steps in a row before step {self.step + 1} "
                f"({figures}, gradient norm {norm.item():.3g}); lower lr.{self.config.name} or set autocast to false"
            )

    def autocast(self) -> Any:
        """Return the context of the forward pass; where bfloat16 is emulated it is many times slower than float32."""
        enabled = self.config.autocast and (self.device.type == "cuda" or multiplies_bfloat16(self.device))
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if enabled else nullcontext()

    def log(self, *, num_steps: int, seconds: float) -> None:
        """Write the means since the last line; the speed is that of the `num_steps` steps of this process."""
        means = self.meter.means()
        self.meter.clear()
        record = {
            "stage": self.config.name,
            "step": self.step,
            "grad_norm": means.pop("grad_norm", None),
            "losses": means,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(self.train_s, 3),
            "samples_per_s": round(self.config.batch_size * num_steps / max(seconds, 1e-9), 2),
            "wait_s": round(self.wait_s, 4),
            "skipped": self.skipped,
        }
        self.wait_s = 0.0
        self.logger.log(record)

    @torch.no_grad()
    def validate(self) -> None:
        """Call the stage's own validation, on the averaged weights where there are some."""
        validate = getattr(self.stage, "validate", None)
        if validate is None:
            return
        seed_step(self.config.seed, self.config.name, self.step, salt=2)
        self.module.eval()
        with self.ema.applied() if self.ema is not None else nullcontext(), self.autocast():
            figures = validate(self.step)
        self.module.train()
        if figures:
            self.logger.validation(self.config.name, self.step, figures)


def _timed(batches: Iterable[tuple[int, Any]], run: _StageRun) -> Iterator[tuple[int, Any]]:
    """Pass batches on and add up the seconds spent waiting for them."""
    iterator = iter(batches)
    while True:
        began = time.monotonic()
        item = next(iterator, None)
        run.wait_s += time.monotonic() - began
        if item is None:
            return
        yield item


def _check_config(config: StageConfig, saved: dict[str, Any], path: Path, *, finished: bool) -> None:
    """Refuse a state of another config; steps may grow, saving and logging may change."""
    for field, value in dataclasses.asdict(config).items():
        before = saved.get(field)
        same = value == before or (isinstance(value, tuple) and before is not None and list(value) == list(before))
        grew = field == "steps" and not finished and isinstance(before, int) and value >= before
        if not (same or grew or field in FREE_FIELDS):
            raise ValueError(
                f"{path}: {field} of stage {config.name} was {before} and is now {value}; "
                f"give the same value, or delete {path.parent} to train the stage anew"
            )
