"""Load the tokenizer of a model folder from its files, whatever form they have, without running code from it.

Flow: tokenizer.json, or vocab.json + merges.txt, or tokenizer.model (SentencePiece) -> a native fast tokenizer.
Source: the tokenizers published with Qwen2, arXiv:2407.10671, and InternLM2, arXiv:2403.17297, which puts the start
    token before every text that is encoded.
"""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer

from sa2va.checkpoints.sentencepiece import build_tokenizer
from sa2va.checkpoints.tokenizer_files import (
    ADDED_FILE,
    FAST_FILE,
    MERGES_FILE,
    SETTINGS_FILE,
    VOCABULARY_FILE,
    check_files,
)
from sa2va.files.json_file import read_json

SUBFOLDER = "tokenizer"
BYTE_LEVEL_FILES = (VOCABULARY_FILE, MERGES_FILE)
SENTENCEPIECE_FILE = "tokenizer.model"
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
CODE_KEY = "auto_map"  # names Python files of the folder, which are never run nor passed on


def tokenizer_folder(folder: Path) -> Path:
    """Return where a model folder keeps its tokenizer: in a subfolder of that name, or beside the weights."""
    below = folder / SUBFOLDER
    return below if below.is_dir() else folder


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder.

    Raises:
        ValueError: there is none, or its files are damaged.
    """
    place = tokenizer_folder(folder)
    check_files(place)
    if (place / FAST_FILE).is_file():
        tokenizer = _load_native(PreTrainedTokenizerFast, place)
    elif all((place / name).is_file() for name in BYTE_LEVEL_FILES):
        tokenizer = _load_native(Qwen2Tokenizer, place)
    elif (place / SENTENCEPIECE_FILE).is_file():
        tokenizer = load_sentencepiece(place)
    else:
        wanted = f"{FAST_FILE}, {' + '.join(BYTE_LEVEL_FILES)} or {SENTENCEPIECE_FILE}"
        raise ValueError(f"{folder} has no tokenizer; expected {wanted}")
    tokenizer.init_kwargs.pop(CODE_KEY, None)
    return tokenizer


def _load_native(kind: type[PreTrainedTokenizerFast], folder: Path) -> PreTrainedTokenizerFast:
    try:
        tokenizer = kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the libraries below raise nothing narrower for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder}: the tokenizer's files are damaged ({reason}); fetch them again") from error
    # A file may ask for texts to be cut or filled up; prompts never are.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def load_sentencepiece(folder: Path) -> PreTrainedTokenizerFast:
    """Rebuild a SentencePiece tokenizer with its added tokens and its start token.

    Raises:
        ValueError: a file is damaged, or an added token does not get the id it should have.
    """
    settings = _read_if_there(folder / SETTINGS_FILE)
    added = _list_added_tokens(folder, settings)
    path = folder / SENTENCEPIECE_FILE
    tokenizer = build_tokenizer(path, {index: token.content for index, token in added.items()})
    for index, token in sorted(added.items()):
        tokenizer.add_special_tokens([token]) if token.special else tokenizer.add_tokens([token])
        found = tokenizer.token_to_id(token.content)
        if found != index:
            raise ValueError(f"{folder}: token {token.content} gets id {found}, not {index}; its files do not agree")
    named = {name: _text(settings[name]) for name in NAMED_TOKENS if settings.get(name)}
    before, after = (
        [named[name]] if settings.get(f"add_{name}", default) and name in named else []
        for name, default in (("bos_token", True), ("eos_token", False))
    )
    ends = [(token, tokenizer.token_to_id(token)) for token in {*before, *after}]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after], pair=[*before, "$A", *after, *before, "$B", *after], special_tokens=ends
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named)


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _text(token: str | dict[str, Any]) -> str:
    return token["content"] if isinstance(token, dict) else token


def _list_added_tokens(folder: Path, settings: dict[str, Any]) -> dict[int, AddedToken]:
    """Return the tokens beside the model's own, by id."""
    added = {
        index: AddedToken(token, special=True, normalized=False)
        for token, index in _read_if_there(folder / ADDED_FILE).items()
    }
    for index, values in (settings.get("added_tokens_decoder") or {}).items():
        flags = {flag: bool(values.get(flag)) for flag in ("lstrip", "rstrip", "single_word", "normalized", "special")}
        added[int(index)] = AddedToken(values["content"], **flags)
    return added
