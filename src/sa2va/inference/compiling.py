"""Compile functions of the model with torch.compile, once they have run often enough to pay for it.

Flow: load(compile=) -> Engine -> Compiler.wrap of SAM 2's image encoder, its tracking step and the token step.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

CompileMode = Literal["auto"] | bool
MODES = ("auto", True, False)
# Compiling takes about as long as this number of calls. Where that many are ahead or have been made, it pays.
CALLS_TO_PAY = 1000
REPEATS = 2  # calls of one shape in a row before it is compiled: a memory that fills has another shape on each frame
MAX_SHAPES = 4  # per function; torch.compile gives up after 8

# Inductor's options: independent small kernels are launched as one.
INDUCTOR: dict[str, str | int | bool | Callable[..., Any]] = {"combo_kernels": True}

R = TypeVar("R")


def check_mode(mode: object) -> CompileMode:
    """Return a compile mode.

    Raises:
        ValueError: it is none.
    """
    if isinstance(mode, bool):
        return mode
    if mode == "auto":
        return "auto"
    raise ValueError(f"compile={mode!r}: expected one of {', '.join(map(repr, MODES))}")


def compile_function(function: Callable[..., R], *, dynamic: bool = False) -> Callable[..., R]:
    """Compile a function for one shape, or for all shapes as far as torch can.

    Where shapes vary, a graph break lets torch go on uncompiled after too many of them, instead of failing.
    """
    return torch.compile(function, fullgraph=not dynamic, dynamic=None if dynamic else False, options=INDUCTOR)


class Compiler:
    """Runs functions, compiled where that pays.

    In mode "auto" a function is compiled on a GPU alone, for shapes with CALLS_TO_PAY calls ahead or behind; if that
    fails, it runs uncompiled from then on. In mode True it is compiled as soon as a shape repeats.
    """

    def __init__(self, mode: CompileMode, device: torch.device) -> None:
        self.is_on = mode is True or (mode == "auto" and device.type == "cuda")
        self._mode = mode
        self._compiled: dict[str, dict[object, Callable[..., Any]]] = {}  # by name, then by owner and shape
        self._calls: Counter[object] = Counter()
        self._row: dict[str, tuple[object, int]] = {}  # the last shape, and how often it came in a row

    def wrap(self, name: str, function: Callable[..., R], *, ahead: int = 0, dynamic: bool = False) -> Callable[..., R]:
        """Return a function that is compiled where that pays; without compiling, the function itself.

        Args:
            name: what it is, for messages.
            function: takes tensors, tuples of them, modules, and values that can be hashed.
            ahead: number of calls that are expected; 0 = unknown.
            dynamic: compile it once for all shapes, as far as torch can, instead of once per shape.
        """
        if not self.is_on:
            return function
        return partial(self._run, name, function, ahead, dynamic)

    def _run(self, name: str, function: Callable[..., R], ahead: int, dynamic: bool, *inputs: Any) -> R:
        owner = id(getattr(function, "__self__", None))
        shape = owner if dynamic else (owner, *map(_describe, inputs))
        known = self._compiled.setdefault(name, {})
        if shape in known:
            return known[shape](*inputs)
        if not self.is_on or not self._pays(name, shape, ahead) or len(known) >= MAX_SHAPES:
            return function(*inputs)
        warnings.warn(f"compiling the {name}, which takes up to a minute; compile=False avoids it", stacklevel=2)
        try:
            made = compile_function(function, dynamic=dynamic)
            found = made(*inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if self._mode is True:
                raise ValueError(f"compile=True: the {name} cannot be compiled here ({reason}); use False") from error
            warnings.warn(f"the {name} cannot be compiled here ({reason}); it runs uncompiled", stacklevel=2)
            self.is_on = False
            return function(*inputs)
        known[shape] = made
        return found

    def _pays(self, name: str, shape: object, ahead: int) -> bool:
        last, repeats = self._row.get(name, (None, 0))
        repeats = repeats + 1 if last == shape else 1
        self._row[name] = shape, repeats
        self._calls[name, shape] += 1
        if repeats <= REPEATS:
            return False
        return self._mode is True or self._calls[name, shape] + ahead >= CALLS_TO_PAY


def _describe(value: Any) -> object:
    """Return what a compiled function depends on: the shapes of tensors, the identity of modules, other values."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    if isinstance(value, tuple):
        return tuple(map(_describe, value))
    return id(value) if isinstance(value, torch.nn.Module) else value


OFF = Compiler(False, torch.device("cpu"))
