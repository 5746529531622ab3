"""Read JSON files within limits of size and depth.

Flow: path -> read_json -> dictionary (read_json_value: or list) of finite numbers, texts and lists;
    iterate_json_list -> the items of a long list.
"""

import codecs
import json
import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sa2va.files.read_limits import read_bounded

MAX_BYTES = 128 * 2**20  # the largest published tokenizer.json has 33 MB
MAX_DEPTH = 64


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON object; see `read_json_value`.

    Raises:
        ValueError: also if the file holds anything but an object.
    """
    values = read_json_value(path, max_bytes)
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}; expected a JSON object")
    return values


def read_json_value(path: Path, max_bytes: int = MAX_BYTES, fallback: str | None = None) -> Any:
    """Read a JSON file of any content, in UTF-8 or else in the encoding `fallback`.

    Raises:
        ValueError: the file is not regular, too large, nested too deeply or not JSON, or a number is not finite.
    """
    text = _read_text(path, max_bytes, fallback)
    with _naming(path):
        values = json.loads(text, parse_constant=_refuse)
        _check_depth(values)
    return values


def iterate_json_list(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[Any]:
    """Yield the items of a JSON list one by one, of which only the file's text is kept in memory.

    Raises:
        ValueError: as `read_json_value`, or the file holds no list; the items before the fault have been yielded.
    """
    text = _read_text(path, max_bytes, None)
    decoder = json.JSONDecoder(parse_constant=_refuse)
    place = _skip(text, 0)
    if text[place : place + 1] != "[":
        raise ValueError(f"{path} holds {text[place : place + 20]!r}; expected a JSON list")
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        with _naming(path):
            item, place = decoder.raw_decode(text, place)
            _check_depth(item)
            place = _skip(text, place)
            if text[place : place + 1] == ",":
                place = _skip(text, place + 1)
                if text[place : place + 1] == "]":
                    raise json.JSONDecodeError("a comma before the end", text, place)
            elif text[place : place + 1] != "]":
                raise json.JSONDecodeError("no comma between two items", text, place)
        yield item
    if (rest := _skip(text, place + 1)) < len(text):
        with _naming(path):
            raise json.JSONDecodeError("text behind the list", text, rest)


def _skip(text: str, place: int) -> int:
    """Return the place of the next character that is no white space."""
    while text[place : place + 1] in (" ", "\t", "\n", "\r"):
        place += 1
    return place


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Turn an error of parsing into one line that names the file."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON (line {error.lineno}); restore it from the source") from error
    except UnicodeError as error:
        raise ValueError(f"{path} is not a text file; restore it from the source") from error
    except RecursionError:
        raise ValueError(f"{path} is nested more than {MAX_DEPTH} deep; restore it from the source") from None
    except ValueError as error:  # a constant refused below, or an integer of thousands of digits
        raise ValueError(f"{path}: {error}; restore it from the source") from error


def _read_text(path: Path, max_bytes: int, fallback: str | None) -> str:
    """Decode a file and drop its bytes, since a mask file has gigabytes."""
    content = read_bounded(path, max_bytes)
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")  # some Windows programs write the mark
    except UnicodeError as error:
        if fallback is not None:
            return content.decode(fallback, "replace")
        raise ValueError(f"{path} is not a text file in UTF-8; save it again or restore it from the source") from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


def _check_depth(values: Any) -> None:
    """Refuse containers nested more than MAX_DEPTH deep, infinite numbers such as 1e999, and lone surrogates."""
    level, depth = [values], 0
    while level and depth <= MAX_DEPTH + 1:
        depth += 1
        below: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is dict:
                below += value
                below += value.values()
            elif kind is list:
                below += value
            elif kind is str:
                _ = value.isascii() or value.encode("utf-8")  # raises for a lone surrogate
            elif kind is float and abs(value) == math.inf:
                _refuse(str(value))
        level = below
    if depth - 1 > MAX_DEPTH:
        raise RecursionError
