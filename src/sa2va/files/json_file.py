"""Read JSON files within limits of size and depth.

Flow: path -> read_json -> dictionary (read_json_value: or list) of finite numbers, texts and lists.
"""

import json
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
    try:
        values = json.loads(text, parse_constant=_refuse)
        depth = _measure_depth(values)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON (line {error.lineno}); restore it from the source") from error
    except UnicodeError as error:
        raise ValueError(f"{path} is not a text file; restore it from the source") from error
    except RecursionError:
        depth = MAX_DEPTH + 1
    except ValueError as error:  # a constant refused below, or an integer of thousands of digits
        raise ValueError(f"{path}: {error}; restore it from the source") from error
    if depth > MAX_DEPTH:
        raise ValueError(f"{path} is nested more than {MAX_DEPTH} deep; restore it from the source") from None
    return values


def _read_text(path: Path, max_bytes: int, fallback: str | None) -> str:
    """Decode a file and drop its bytes, since a mask file has gigabytes."""
    content = read_bounded(path, max_bytes)
    try:
        return content.decode("utf-8")
    except UnicodeError as error:
        if fallback is not None:
            return content.decode(fallback, "replace")
        raise ValueError(f"{path} is not a text file; restore it from the source") from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


def _measure_depth(values: Any) -> int:
    """Return the depth of nested containers, up to one more than allowed; refuse infinite numbers such as 1e999."""
    level, depth = [values], 0
    while level and depth <= MAX_DEPTH + 1:
        depth += 1
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict | list):
                below += (*value, *value.values()) if isinstance(value, dict) else value
            elif isinstance(value, str):
                value.encode("utf-8")  # raises for a lone surrogate
            elif isinstance(value, float) and value in (float("inf"), float("-inf")):
                _refuse(str(value))
        level = below
    return depth - 1
