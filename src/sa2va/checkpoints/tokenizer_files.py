"""Check the files of a tokenizer before a library reads them: sizes, growth of text, patterns.

Flow: folder -> check_files -> tokenizers.py.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sa2va.checkpoints.patterns import check_pattern
from sa2va.files.json_file import read_json
from sa2va.files.read_limits import read_bounded
from sa2va.model.config_limits import MAX_TEXT, TOKEN_ID

FAST_FILE, SETTINGS_FILE, ADDED_FILE = "tokenizer.json", "tokenizer_config.json", "added_tokens.json"
SPECIAL_FILE, VOCABULARY_FILE, MERGES_FILE = "special_tokens_map.json", "vocab.json", "merges.txt"
# Refused: they name other files or pass objects to the library.
REFUSED = ("fast_tokenizer_files", "gguf_file", "tokenizer_object", "post_processor", "_spm_precompiled_charsmap")
MAX_GROWTH = 64  # maximum number of characters that replace one; NFKC needs up to 18
MAX_TOKEN = 1_000  # maximum length of a special token, in characters
MAX_INSERTED = 64  # maximum number of characters that one step inserts
MAX_STEPS = 64
STEPS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
FIXED_GROWTH = {"NFKC": 18, "NFKD": 18, "NFC": 3, "NFD": 4, "ByteLevel": 4, "BertNormalizer": 3, "Lowercase": 3}


def check_files(folder: Path) -> None:
    """Check every file of a tokenizer that a library would read.

    Raises:
        ValueError: a file is too large, is damaged, or holds something that no published tokenizer has.
    """
    files = {
        name: read_json(folder / name)
        for name in (FAST_FILE, SETTINGS_FILE, ADDED_FILE, SPECIAL_FILE, VOCABULARY_FILE)
        if (folder / name).is_file()
    }
    for path in sorted({folder / MERGES_FILE, *folder.glob("*.jinja"), *folder.glob("additional_chat_templates/*")}):
        if path.is_file():
            read_bounded(path, MAX_TEXT if path.suffix == ".jinja" else 64 * 2**20)
    if SETTINGS_FILE in files:
        _check_settings(files[SETTINGS_FILE], folder / SETTINGS_FILE)
    for name in (ADDED_FILE, VOCABULARY_FILE):
        for token, number in files.get(name, {}).items():
            _check_id(number, f"{folder / name}: id of {token!r:.40}")
    if FAST_FILE in files:
        _check_fast(files[FAST_FILE], folder / FAST_FILE)


def _check_settings(settings: Mapping[str, Any], path: Path) -> None:
    for name in REFUSED:
        if settings.get(name) is not None:
            raise ValueError(f"{path}: {name} is not supported; expected none")
    longest = settings.get("model_max_length")
    if longest is not None and (isinstance(longest, bool) or not isinstance(longest, int | float) or longest < 1):
        raise ValueError(f"{path}: model_max_length is {longest!r:.60}; expected a number of at least 1")
    template = settings.get("chat_template") or ""
    if len(str(template)) > MAX_TEXT:
        raise ValueError(f"{path}: chat_template has more than {MAX_TEXT} characters; fetch it again")
    added = settings.get("added_tokens_decoder") or {}
    if not isinstance(added, Mapping):
        raise ValueError(f"{path}: added_tokens_decoder is {added!r:.60}; expected an object")
    for number, token in added.items():
        _check_id(int(number) if number.isdecimal() and len(number) < 10 else number, f"{path}: added token")
        _check_token(token, path)


def _check_id(number: Any, name: str) -> None:
    if number not in TOKEN_ID or number < 0:
        raise ValueError(f"{name} is {number!r:.60}; expected a whole number from 0 to {TOKEN_ID.high:.0f}")


def _check_token(token: Any, path: Path) -> None:
    content = token.get("content") if isinstance(token, Mapping) else None
    if not isinstance(content, str) or not 0 < len(content) <= MAX_TOKEN:
        raise ValueError(f"{path}: added token {token!r:.60}; expected a content of 1 to {MAX_TOKEN} characters")


def _check_fast(values: Mapping[str, Any], path: Path) -> None:
    for token in _list(values.get("added_tokens"), f"{path}: added_tokens", 2**21):
        _check_token(token, path)
        _check_id(token.get("id"), f"{path}: id of {token['content']!r:.40}")
    if isinstance(values.get("model"), Mapping) and values["model"].get("dropout"):
        raise ValueError(f"{path}: model.dropout is {values['model']['dropout']!r:.60}; expected none")
    for part in STEPS:
        growth = _measure(values.get(part), f"{path}: {part}", part)
        if growth > MAX_GROWTH:
            raise ValueError(f"{path}: {part} can make a text {growth:g} times as long; expected at most {MAX_GROWTH}")


def _list(values: Any, name: str, most: int = MAX_STEPS) -> list[Any]:
    if values is None:
        return []
    if not isinstance(values, list) or len(values) > most:
        raise ValueError(f"{name} is {values!r:.60}; expected a list of at most {most}")
    return values


def _measure(step: Any, name: str, part: str) -> float:
    """Return the largest growth factor of a text in one step.

    Raises:
        ValueError: it has a pattern that can explode, or a text or a list that is too long.
    """
    if step is None:
        return 1.0
    if not isinstance(step, Mapping):
        raise ValueError(f"{name} is {step!r:.60}; expected an object")
    growth = float(FIXED_GROWTH.get(str(step.get("type")), 1)) if part == "normalizer" else 1.0
    for inner in ("normalizers", "pretokenizers", "processors", "decoders"):
        for number, below in enumerate(_list(step.get(inner), f"{name}.{inner}")):
            growth *= _measure(below, f"{name}.{inner}[{number}]", part)
    for side in ("single", "pair"):
        _list(step.get(side), f"{name}.{side}")
    for field in ("prepend", "content", "replacement", "prefix", "suffix"):
        text = step.get(field)
        if isinstance(text, str) and len(text) > MAX_INSERTED:
            raise ValueError(f"{name}.{field} has {len(text)} characters; expected at most {MAX_INSERTED}")
    special = step.get("special_tokens")
    for tokens in special.values() if isinstance(special, Mapping) else ():
        for field in ("ids", "tokens"):
            _list(tokens.get(field) if isinstance(tokens, Mapping) else None, f"{name}.special_tokens")
    if step.get("type") == "Precompiled":
        growth *= _measure_charsmap(step.get("precompiled_charsmap"), name)
    return growth * _measure_replacement(step, name)


def _measure_replacement(step: Mapping[str, Any], name: str) -> float:
    """Return the growth factor of a replacement; a pattern that only splits adds nothing."""
    pattern = step.get("pattern")
    if pattern is None:
        return 1.0
    kinds = pattern if isinstance(pattern, Mapping) else {}
    fixed, regex = kinds.get("String"), kinds.get("Regex")
    if isinstance(regex, str):
        check_pattern(regex, f"{name}: pattern")
    elif not isinstance(fixed, str):
        raise ValueError(f"{name}.pattern is {pattern!r:.60}; expected a String or a Regex")
    if step.get("type") != "Replace":
        return 1.0
    content = step.get("content")
    if not isinstance(content, str):
        raise ValueError(f"{name}.content is {content!r:.60}; expected a text")
    if fixed is not None:
        # An empty pattern matches between all characters and removes none.
        return max(1.0, len(content) / len(fixed)) if fixed else 1.0 + len(content)
    return 1.0 + len(content) if len(content) > 1 else 1.0


def _measure_charsmap(packed: Any, name: str) -> float:
    """Return the longest replacement of one character in a compiled character map."""
    try:
        data = base64.b64decode(str(packed or ""), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} holds a damaged character map; fetch it again") from error
    start = 4 + int.from_bytes(data[:4], "little")
    return float(max([1, *map(len, data[start:].split(b"\0"))]))
