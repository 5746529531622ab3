"""Rename and reshape tensors between two layouts by reversible rules.

Flow: rules (sam2_keys.py, published/*.py) + names of a file -> plan -> Steps -> convert, one step's tensors at a time.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

import torch
from torch import Tensor

Change = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def keep(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    return tensors


def concatenate(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Concatenate tensors along the first dimension."""
    return [torch.cat(list(tensors))]


def divide(parts: int) -> Change:
    """Return the inverse of `concatenate` for parts of equal length."""

    def change(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        (whole,) = tensors
        if not whole.ndim or len(whole) % parts:
            raise ValueError(f"a tensor of shape {tuple(whole.shape)} cannot be cut into {parts} equal parts")
        return whole.chunk(parts)

    return change


def take_equal(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the first of several equal tensors; equality is checked except on the meta device."""
    if not tensors[0].is_meta and not all(torch.equal(tensors[0], other) for other in tensors[1:]):
        raise ValueError("tensors that must be equal differ")
    return tensors[:1]


@dataclass(frozen=True)
class Rule:
    """Conversion rule: official and native names of a group of tensors, and the change of their shapes.

    Names are templates: `{rest}` stands for any text, every other `{letter}` for digits. The first rule that
    matches a name applies.
    """

    official: tuple[str, ...]
    native: tuple[str, ...]
    to_native: Change = keep
    to_official: Change = keep

    @classmethod
    def rename(cls, official: str, native: str) -> Self:
        """Rename one tensor."""
        return cls((official,), (native,))

    @classmethod
    def split(cls, official: str, native: Sequence[str]) -> Self:
        """Split the rows of one official tensor into several native ones of equal length."""
        return cls((official,), tuple(native), divide(len(native)), concatenate)

    @classmethod
    def join(cls, official: Sequence[str], native: str) -> Self:
        """Join several official tensors of equal length as the rows of one native tensor."""
        return cls(tuple(official), (native,), concatenate, divide(len(official)))

    @classmethod
    def copy(cls, official: str, native: Sequence[str]) -> Self:
        """Copy one official tensor to several native names."""
        return cls((official,), tuple(native), lambda tensors: [tensors[0].clone() for _ in native], take_equal)

    def under(self, official: str, native: str) -> Self:
        """Return the rule with a prefix before the names of each side."""
        return replace(
            self,
            official=tuple(official + name for name in self.official),
            native=tuple(native + name for name in self.native),
        )


@dataclass(frozen=True)
class Step:
    """Conversion step: source tensors, and the target tensors made from them."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    change: Change

    def run(self, tensors: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
        """Return the targets by name.

        Raises:
            ValueError: the tensors do not have the shape that the rule expects.
        """
        try:
            made = self.change(tensors)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{', '.join(self.sources)}: {error}; wrong or mixed files") from error
        return list(zip(self.targets, made, strict=True))


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)  # text, placeholder, text, placeholder, ...
    for index in range(0, len(parts), 2):
        parts[index] = re.escape(parts[index])
    for index in range(1, len(parts), 2):
        parts[index] = f"(?P<{parts[index]}>{'.+' if parts[index] == 'rest' else '[0-9]+'})"
    return re.compile("".join(parts))


def _plan(sides: Sequence[tuple[tuple[str, ...], tuple[str, ...], Change]], names: Sequence[str]) -> tuple[Step, ...]:
    given = set(names)
    steps: dict[tuple[str, ...], Step] = {}
    maker: dict[str, str] = {}
    for name in names:
        found = next(
            ((side, match) for side in sides for source in side[0] if (match := _pattern(source).fullmatch(name))), None
        )
        if found is None:
            raise ValueError(f"tensor {name} is unknown; wrong or mixed files")
        (sources, targets, change), match = found
        sources, targets = (tuple(t.format(**match.groupdict()) for t in side) for side in (sources, targets))
        if sources in steps:
            continue
        for missing in sorted(set(sources) - given):
            raise ValueError(f"tensor {missing} is missing, although {name} is there; wrong or mixed files")
        for target in targets:
            if target in maker:
                raise ValueError(f"tensors {maker[target]} and {name} both map to {target}; wrong or mixed files")
            maker[target] = name
        steps[sources] = Step(sources, targets, change)
    return tuple(steps.values())


def to_native(rules: Sequence[Rule], names: Sequence[str]) -> tuple[Step, ...]:
    """Plan the conversion of official tensors to native ones.

    Raises:
        ValueError: no rule matches a name, a rule lacks one of its tensors, or two names map to the same tensor.
    """
    return _plan([(rule.official, rule.native, rule.to_native) for rule in rules], names)


def to_official(rules: Sequence[Rule], names: Sequence[str]) -> tuple[Step, ...]:
    """Plan the conversion of native tensors to official ones; raises as `to_native` does."""
    return _plan([(rule.native, rule.official, rule.to_official) for rule in rules], names)


def convert(steps: Sequence[Step], read: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Convert tensors step by step, so that few are in memory at a time.

    Args:
        steps: a plan.
        read: returns a source tensor by name.
    """
    for step in steps:
        yield from step.run([read(name) for name in step.sources])
