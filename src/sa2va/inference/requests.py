"""Define requests (media, prompt, regions) and their options, which are validated on construction.

Flow: apps, evaluation, a server -> Request, Options -> engine.py.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from numpy.typing import NDArray

from sa2va.inference.keyframes import check_choice
from sa2va.tokens import check_text, require_utf8

MODES = ("auto", "official", "consistent")
DEFAULT_NEW_TOKENS = 512  # per answer; the end of the context may cut it short
LEAST_ROOM = 64  # tokens that a prompt must leave for an answer of the default length
MAX_SEED = 2**64 - 1


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Validate a count and return it as an int.

    Raises:
        ValueError: it is not a whole number of at least `least`.
    """
    if not _is_whole(value) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number, at least {least}")
    return int(value)


def check_one_of(**given: object) -> None:
    """Check that exactly one of several arguments is given.

    Raises:
        ValueError: none is, or several are.
    """
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise ValueError(f"expected exactly one of {', '.join(given)}, got {' and '.join(chosen) or 'none'}")


def check_stop(stop: Any) -> tuple[str, ...]:
    """Validate stop strings, one or several, and return them as a tuple.

    Raises:
        ValueError: one is empty or no string.
    """
    strings = (stop,) if isinstance(stop, str) else stop
    if not isinstance(strings, Sequence) or not all(isinstance(one, str) and one for one in strings):
        raise ValueError(f"stop is {stop!r:.60}; expected stop strings that are not empty, as in ('\\n',)")
    return tuple(require_utf8(one, "stop") for one in strings)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _to_finite(value: Any) -> float:
    """Convert a number to float; return NaN if it is no number or not finite."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        number = float(value)
    except OverflowError:  # an int of hundreds of digits
        return math.nan
    return number if math.isfinite(number) else math.nan


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a prediction; NumPy scalars are accepted.

    Raises:
        ValueError: a value has the wrong type or lies outside its range.
    """

    max_new_tokens: int = DEFAULT_NEW_TOKENS  # any value but the default must fit after the prompt
    temperature: float = 0.0  # 0 = greedy
    top_p: float = 1.0  # sample from the most likely tokens whose probabilities reach this sum; 1 = from all
    seed: int = 0  # random seed of sampling; unused at temperature 0
    stop: tuple[str, ...] = ()  # stop strings: the first in an answer ends it and is not part of it; one may be a str
    mask_threshold: float = 0.0  # a pixel with a larger logit belongs to the mask
    max_objects: int = 64  # per answer; further [SEG] tokens get no mask; 0 = text only
    num_keyframes: int | None = None  # frames of a clip that the MLLM reads; None = the model's default
    keyframes: str | None = None  # which: "uniform" | "first" | "content"; None = as the model and the mode have it
    mode: str = "auto"  # "auto" | "official" | "consistent"

    def __post_init__(self) -> None:
        numbers: dict[str, float] = {"max_new_tokens": check_count("max_new_tokens", self.max_new_tokens)}
        numbers["max_objects"] = check_count("max_objects", self.max_objects, least=0)
        if self.num_keyframes is not None:
            numbers["num_keyframes"] = check_count("num_keyframes", self.num_keyframes)
        if not _is_whole(self.seed) or not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed is {self.seed!r}; expected a whole number from 0 to {MAX_SEED}")
        numbers["seed"] = int(self.seed)
        numbers["temperature"] = _to_finite(self.temperature)
        if not numbers["temperature"] >= 0:
            raise ValueError(f"temperature is {self.temperature!r}; expected a finite number, 0 (greedy) or more")
        numbers["top_p"] = _to_finite(self.top_p)
        if not 0 < numbers["top_p"] <= 1:
            raise ValueError(f"top_p is {self.top_p!r}; expected a number above 0, at most 1 (all tokens)")
        numbers["mask_threshold"] = _to_finite(self.mask_threshold)
        if math.isnan(numbers["mask_threshold"]):
            raise ValueError(f"mask_threshold is {self.mask_threshold!r}; expected a finite logit, as in 0.0")
        if self.keyframes is not None:
            check_choice(self.keyframes)
        if not isinstance(self.mode, str) or self.mode not in MODES:
            raise ValueError(f"mode {self.mode!r} is unknown; use one of {', '.join(MODES)}")
        object.__setattr__(self, "stop", check_stop(self.stop))
        for name, value in numbers.items():
            object.__setattr__(self, name, value)

    @classmethod
    def read(cls, options: "Options | None") -> "Options":
        """Return the caller's options, or the defaults.

        Raises:
            ValueError: `options` has another type.
        """
        if options is not None and not isinstance(options, cls):
            raise ValueError(f"options {options!r:.60}: expected Options(...), got {type(options).__name__}")
        return options or cls()

    @property
    def room(self) -> int:
        """Number of tokens reserved for the answer."""
        return LEAST_ROOM if self.max_new_tokens == DEFAULT_NEW_TOKENS else self.max_new_tokens


StopFlag = Callable[[], bool]  # as in threading.Event().is_set


class Cancelled(Exception):
    """The stop flag of a request was set, and no answer was computed."""


def never() -> bool:
    """Return False: the stop flag of a request that cannot be cancelled."""
    return False


@dataclass(frozen=True)
class Request:
    """Question or request about one image or clip, or about several images at once.

    With `images`, masks and regions belong to the first of them.
    """

    media: Any = None
    prompt: str = ""
    regions: Sequence[Any] | NDArray[Any] | None = None  # see `sa2va.masks.split_regions`
    images: Sequence[Any] | None = None
    options: Options | None = None  # of this request; None = those passed with the call
    stop: StopFlag = never  # called before each token and each frame; True cancels the request

    def __post_init__(self) -> None:
        if (self.media is None) == (self.images is None):
            raise ValueError("a request needs either media or images")
        check_text(self.prompt, "prompt")
        if not callable(self.stop):
            raise ValueError(f"stop {self.stop!r:.60}: expected a function without arguments, such as Event().is_set")
