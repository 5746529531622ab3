"""Define the configuration of a training run and its command-line overrides: typed `name=value` words.

Flow: recipes.py builds a RunConfig -> apply_overrides -> trainer.py runs each stage.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sa2va.training.stage import OF_THE_RUN, Parallel, StageConfig

if TYPE_CHECKING:
    from sa2va.model.processor import Processor
    from sa2va.model.sa2va import Sa2VA

ConfigT = TypeVar("ConfigT")

TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Configuration of a run: stages in order, output folder, seed, device."""

    name: str = dataclasses.field(metadata=OF_THE_RUN)
    output: str  # folder for log, states and weights
    stages: tuple[StageConfig, ...]
    start: str = ""  # initial weights: "tiny", a model folder or org/name; "" = random weights
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1 ...
    threads: int = 0  # CPU threads of the training process; 0 = torch's default
    parallel: Parallel = "ddp"  # several processes hold the whole model each (ddp), or share it (fsdp)

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"run {self.name}: two stages share a name in {names}; give each its own")
        if not 0 <= self.seed < 2**63 or not 0 <= self.threads <= 1024:
            raise ValueError(f"run {self.name}: seed {self.seed} or threads {self.threads} is out of range; use >= 0")

    def build_model(self, folder: Path) -> "tuple[Sa2VA, Processor]":
        """Load the model that the run starts from, in float32 on the CPU.

        Args:
            folder: folder of the run, where a subclass may store files that a resumed run needs.

        Raises:
            ValueError: `start` is empty or cannot be loaded.
        """
        import torch

        from sa2va.checkpoints.find import find_model
        from sa2va.checkpoints.folder import load_checkpoint

        if not self.start:
            raise ValueError(f"run {self.name} needs a model to start from; set start=tiny, a folder or org/name")
        return load_checkpoint(find_model(self.start), torch.device("cpu"), torch.float32)

    def finish(self, model: "Sa2VA", processor: "Processor") -> None:
        """Finish the model after the last stage and before saving, for example by calibration; override as needed."""

    def describe_stage(self, stage: StageConfig) -> StageConfig:
        """Return the config of a stage with the settings that all stages of the run share."""
        return dataclasses.replace(stage, seed=self.seed, parallel=self.parallel, origin=self.origin)

    @property
    def origin(self) -> tuple[str, ...]:
        """Settings of the model before its first stage; a state is resumed only with the same ones."""
        return (f"start={self.start}",)

    @property
    def results(self) -> tuple[str, ...]:
        """Files or folders that `save` writes, relative to the folder of the run."""
        return ("model",)

    def save(self, model: "Sa2VA", processor: "Processor", folder: Path) -> None:
        """Save the finished model in the folder of the run, in bfloat16."""
        import torch

        from sa2va.checkpoints.folder import save_checkpoint

        save_checkpoint(model, processor.tokenizer, folder / "model", torch.bfloat16)


def apply_overrides(config: ConfigT, overrides: Sequence[str]) -> ConfigT:
    """Return `config` with each `name=value` word applied, typed and checked.

    Args:
        config: a frozen dataclass; dots address nested dataclasses, and members of a tuple by their `name`.
        overrides: words such as `seed=3`, `stages.refseg.lr=1e-4`, or `steps.refseg=100` (a stage's field first). In a
            run of one stage its name can be left out: `steps=100`. `name+=value` extends a list.

    Returns:
        A new config; the argument is unchanged.

    Raises:
        ValueError: one line with the word, the expected value and the nearest valid names.
    """
    assert dataclasses.is_dataclass(config) and not isinstance(config, type)
    for word in overrides:
        name, equals, text = word.partition("=")
        adds = name.rstrip().endswith("+")
        name = name.strip().removesuffix("+")
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
        if adds:
            if typing.get_origin(leaves[path]) is not tuple:
                raise ValueError(f"override {word!r}: only a list can be extended with +=; write {name}={text}")
            value = (*_read(config, path.split(".")), *value)
        config = _replace(config, path.split("."), value)
    return config


def refuse_two_outputs(overrides: Sequence[str], output: str | None) -> None:
    """Refuse a run folder that is given both as an argument and as an override.

    Raises:
        ValueError: `output` is given and an override sets it too.
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
    """Yield (dotted name, type) of each setting that an override can set."""
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
            if hasattr(value[0], "from_text"):
                yield prefix + one.name, hints[one.name]
        else:
            yield prefix + one.name, hints[one.name]


def _short_names(config: Any) -> list[str]:
    """Return the `field.stage` spellings of a run's stage settings."""
    stages = getattr(config, "stages", ())
    return [f"{path}.{stage.name}" for stage in stages for path, _ in _leaves(stage)]


def _stage_path(config: Any, name: str) -> str:
    """Rewrite `steps.refseg` to `stages.refseg.steps`, also for nested fields; return other names unchanged."""
    field, _, stage = name.rpartition(".")
    if len(stages := getattr(config, "stages", ())) == 1 and stage != stages[0].name:
        return f"stages.{stages[0].name}.{name}"
    return f"stages.{stage}.{field}" if any(s.name == stage for s in getattr(config, "stages", ())) else name


def _read(config: Any, path: list[str]) -> Any:
    for name in path:
        members = isinstance(config, tuple)
        config = next(m for m in config if m.name == name) if members else getattr(config, name)
    return config


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
    """Parse `text` as the type `hint`."""
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
    if hasattr(hint, "from_text"):
        try:
            return hint.from_text(text)
        except ValueError as error:
            raise ValueError(f"override {word!r}: {error}") from error
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
    raise ValueError(f"override {word!r}: this setting cannot be overridden; set it in the recipe")


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
