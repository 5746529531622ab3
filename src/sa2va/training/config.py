"""Describe a training run: frozen configs of its stages, and typed overrides from the command line.

Flow: recipes.py builds a RunConfig -> apply_overrides (name=value words) -> loop.py runs each stage.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ConfigT = TypeVar("ConfigT")

TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")
FREE_FIELDS = ("save_every", "save_every_s", "log_every", "validate_every", "num_workers")  # may change on resume
OF_THE_RUN = {"set by the recipe or the run": True}  # marks a field that no override reaches
MIN_CALIBRATION = 50  # requests; fewer may hold too few absent objects to fit anything


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Settings of one stage: how long, how fast, how often to save."""

    name: str = dataclasses.field(metadata=OF_THE_RUN)
    steps: int  # optimizer steps of the whole stage
    batch_size: int  # samples per step, also the unit of samples/s
    lr: float  # peak learning rate
    warmup_steps: int = 100  # linear, from lr / warmup_steps up to lr
    min_lr_ratio: float = 0.02  # the cosine ends at lr * min_lr_ratio
    weight_decay: float = 0.05  # on matrices; never on norms, biases, embeddings
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0  # largest gradient norm; 0 = no clipping
    save_every: int = 200  # steps between two saved states; 0 = by time only
    save_every_s: float = 120.0  # seconds between two saved states; 0 = by steps only
    log_every: int = 10  # steps averaged in one line of the log
    validate_every: int = 0  # steps between two calls of validate; 0 = never
    autocast: bool = True  # bf16 autocast (cpu and cuda)
    ema: float = 0.0  # decay of the averaged weights; 0 = off
    seed: int = dataclasses.field(default=0, metadata=OF_THE_RUN)
    num_workers: int = 1  # processes that prepare batches; 0 = prepare them inline

    def __post_init__(self) -> None:
        bounds: tuple[tuple[str, float, float], ...] = (
            ("steps", 0, math.inf),
            ("batch_size", 1, math.inf),
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
            ("seed", 0, 2**63 - 1),
            ("num_workers", 0, 64),
        )
        for field, low, high in bounds:
            value = getattr(self, field)
            if not low <= value <= high:
                raise ValueError(f"stage {self.name}: {field} is {value}; expected {low} to {high}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"stage {self.name}: betas are {self.betas}; expected two numbers in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run: its stages in order and where the results go."""

    name: str = dataclasses.field(metadata=OF_THE_RUN)
    output: str  # folder of the run: log, states, weights
    stages: tuple[StageConfig, ...]
    start: str = ""  # model folder, or "tiny", whose weights the run begins with; "" = random ones
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1 ...
    threads: int = 0  # CPU threads of the training process; 0 = what torch chooses
    calibration: int = 0  # drawn requests that presence and scores are calibrated on in the end; 0 = not at all

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"run {self.name}: two stages share a name in {names}; give each its own")
        if not 0 <= self.seed < 2**63 or not 0 <= self.threads <= 1024:
            raise ValueError(f"run {self.name}: seed {self.seed} or threads {self.threads} is out of range; use >= 0")
        if self.calibration < 0 or 0 < self.calibration < MIN_CALIBRATION:
            raise ValueError(
                f"run {self.name}: calibration on {self.calibration} requests; use 0 or at least {MIN_CALIBRATION}"
            )

    def stage(self, name: str) -> StageConfig:
        """Return the stage called `name`."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ValueError(f"run {self.name} has no stage {name!r}; its stages: {_listed(s.name for s in self.stages)}")


def apply_overrides(config: ConfigT, overrides: Sequence[str]) -> ConfigT:
    """Return `config` with each `name=value` word applied, typed and checked.

    Args:
        config: a frozen dataclass; nested dataclasses are reached with dots, members of a tuple by their `name`.
        overrides: words such as `seed=3`, `stages.refseg.lr=1e-4`, or `steps.refseg=100` (a stage's field first).

    Returns:
        A new config; the given one is unchanged.

    Raises:
        ValueError: one line that names the word, what was expected and the nearest valid names.
    """
    assert dataclasses.is_dataclass(config) and not isinstance(config, type)
    for word in overrides:
        name, equals, text = word.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ValueError(f"override {word!r}: expected name=value, for example seed=3")
        leaves = dict(_leaves(config))
        path = name if name in leaves else _stage_path(config, name)
        if path not in leaves:
            if path.rpartition(".")[2] == "seed" and "seed" in leaves:
                raise ValueError(f"override {word!r}: a stage has no seed of its own; set that of the run: seed=3")
            near = difflib.get_close_matches(name, [*leaves, *_short_names(config)], n=3, cutoff=0.5)
            raise ValueError(f"override {word!r}: no setting {name!r}; nearest: {_listed(near or sorted(leaves)[:8])}")
        value = _parse(text.strip(), leaves[path], word)
        config = _replace(config, path.split("."), value)
    return config


def refuse_two_outputs(overrides: Sequence[str], output: str | None) -> None:
    """See that the folder of a run is named once.

    Raises:
        ValueError: an override names another one beside `output`.
    """
    for word in overrides:
        if output is not None and word.partition("=")[0].strip() == "output":
            raise ValueError(f"override {word!r}: the output is given as {output} already; leave one of them out")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _is_config(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_named_tuple_of_configs(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(_is_config(v) and hasattr(v, "name") for v in value)


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, type) of each setting that an override can reach."""
    hints = typing.get_type_hints(type(config))
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if OF_THE_RUN.items() <= one.metadata.items():
            continue
        if _is_config(value):
            yield from _leaves(value, f"{prefix}{one.name}.")
        elif _is_named_tuple_of_configs(value):
            for member in value:
                yield from _leaves(member, f"{prefix}{one.name}.{member.name}.")
        else:
            yield prefix + one.name, hints[one.name]


def _short_names(config: Any) -> list[str]:
    """Return the `field.stage` spellings of a run's stage settings."""
    stages = getattr(config, "stages", ())
    return [f"{path}.{stage.name}" for stage in stages for path, _ in _leaves(stage)]


def _stage_path(config: Any, name: str) -> str:
    """Turn `steps.refseg` into `stages.refseg.steps`; leave any other name alone."""
    field, _, stage = name.partition(".")
    return f"stages.{stage}.{field}" if any(s.name == stage for s in getattr(config, "stages", ())) else name


def _replace(config: Any, path: list[str], value: Any) -> Any:
    head, rest = path[0], path[1:]
    if not rest:
        return dataclasses.replace(config, **{head: value})
    child = getattr(config, head)
    if isinstance(child, tuple):
        new: Any = tuple(_replace(m, rest[1:], value) if m.name == rest[0] else m for m in child)
    else:
        new = _replace(child, rest, value)
    return dataclasses.replace(config, **{head: new})


def _parse(text: str, hint: Any, word: str) -> Any:
    """Read `text` as the type `hint`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and text.lower() in ("none", "null"):
            return None
        inner = [arg for arg in args if arg is not type(None)]
        if len(inner) == 1:
            return _parse(text, inner[0], word)
    if origin is typing.Literal:
        for choice in args:
            if str(choice) == text:
                return choice
        raise ValueError(f"override {word!r}: expected one of {_listed(map(str, args))}")
    if origin is tuple:
        return _parse_tuple(text, args, word)
    if hint is bool:
        if text.lower() in TRUE_WORDS or text.lower() in FALSE_WORDS:
            return text.lower() in TRUE_WORDS
        raise ValueError(f"override {word!r}: expected true or false")
    if hint in (int, float):
        return _parse_number(text, hint, word)
    if hint in (str, Path):
        if not text:
            raise ValueError(f"override {word!r}: expected a text after the =")
        return hint(text)
    raise ValueError(f"override {word!r}: this setting cannot be given as one word; set it in the recipe")


def _parse_number(text: str, kind: type, word: str) -> int | float:
    try:
        return int(text) if kind is int else _finite(float(text))
    except ValueError:
        pass
    try:
        number = _finite(float(text))  # 1e3 steps are 1000 steps
    except ValueError:
        number = 0.5
    if kind is int and number == int(number):
        return int(number)
    raise ValueError(f"override {word!r}: expected {'a whole number' if kind is int else 'a number'}")


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _parse_tuple(text: str, args: tuple[Any, ...], word: str) -> tuple[Any, ...]:
    parts = [part.strip() for part in text.strip("()[]").split(",") if part.strip()]
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_parse(part, args[0], word) for part in parts)
    if len(parts) != len(args):
        raise ValueError(f"override {word!r}: expected {len(args)} values with commas between them, got {len(parts)}")
    return tuple(_parse(part, arg, word) for part, arg in zip(parts, args, strict=True))
