"""Load the tokenizer of a model folder from any file format, without running code from it.

Flow: tokenizer.json, or vocab.json + merges.txt, or tokenizer.model (SentencePiece) -> a native fast tokenizer.
Source: the tokenizers published with Qwen2, arXiv:2407.10671, and InternLM2, arXiv:2403.17297, which puts the start
    token before every text that is encoded; SentencePiece, arXiv:1808.06226.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer

from sa2va.checkpoints.native import one_line
from sa2va.checkpoints.tokenizer_files import (
    ADDED_FILE,
    FAST_FILE,
    MAX_TOKEN,
    MERGES_FILE,
    SETTINGS_FILE,
    VOCABULARY_FILE,
    check_files,
)
from sa2va.files.json_file import read_json
from sa2va.files.read_limits import read_bounded
from sa2va.model.config_limits import TOKEN_ID

SUBFOLDER = "tokenizer"
BYTE_LEVEL_FILES = (VOCABULARY_FILE, MERGES_FILE)
SENTENCEPIECE_FILE = "tokenizer.model"
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
CODE_KEY = "auto_map"  # names Python files of the folder, which are never run nor passed on
SPACE = "\u2581"  # SentencePiece's symbol for a space
MAX_SENTENCEPIECE_BYTES = 8 * 2**20  # the largest published model has 5 MB


def tokenizer_folder(folder: Path) -> Path:
    """Return the folder of a model's tokenizer files: its subfolder `tokenizer`, or the model folder itself."""
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
    except Exception as error:  # the libraries raise nothing narrower for a damaged file
        raise ValueError(
            f"{folder}: the tokenizer's files are damaged ({one_line(error)}); fetch them again"
        ) from error
    # A file may enable truncation or padding, which prompts must not get.
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
    tokenizer = build_bpe(path, {index: token.content for index, token in added.items()})
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
    """Return the added tokens by id."""
    added = {
        index: AddedToken(token, special=True, normalized=False)
        for token, index in _read_if_there(folder / ADDED_FILE).items()
    }
    for index, values in (settings.get("added_tokens_decoder") or {}).items():
        flags = {flag: bool(values.get(flag)) for flag in ("lstrip", "rstrip", "single_word", "normalized", "special")}
        added[int(index)] = AddedToken(values["content"], **flags)
    return added


def read_sentencepiece(path: Path) -> Any:
    """Read a SentencePiece model file as its ModelProto.

    Raises:
        ValueError: the extra is not installed, or the file is too large, damaged or empty.
    """
    try:
        from sentencepiece import sentencepiece_model_pb2
    except Exception as error:  # ImportError, or VersionError of a protobuf that is too old
        raise ValueError(f"{path} needs an extra to be read; run: pip install -U 'sa2va[convert]'") from error
    data = read_bounded(path, MAX_SENTENCEPIECE_BYTES)
    schema: Any = sentencepiece_model_pb2  # its classes are made at import
    model = schema.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # DecodeError of protobuf
        raise ValueError(f"{path} is damaged or no SentencePiece model; fetch it again") from error
    if not 0 < len(model.pieces) <= TOKEN_ID.high:
        raise ValueError(f"{path} holds {len(model.pieces)} pieces; expected 1 to {TOKEN_ID.high:.0f}")
    if any(len(piece.piece) > MAX_TOKEN for piece in model.pieces):
        raise ValueError(f"{path} holds a piece of more than {MAX_TOKEN} characters; fetch it again")
    return model


def build_bpe(path: Path, renamed: Mapping[int, str]) -> Tokenizer:
    """Build a native BPE tokenizer from a SentencePiece model, with the same ids.

    User-defined pieces become added tokens. Known difference: text that contains such a piece gets a space before
    and after it; SentencePiece writes one space only, at the start.

    Args:
        path: of the model file.
        renamed: id -> token that the tokenizer's configuration puts in place of the piece.

    Raises:
        ValueError: the file is damaged, or of a kind that cannot be rebuilt exactly.
    """
    model = read_sentencepiece(path)
    trainer, rules, kinds = model.trainer_spec, model.normalizer_spec, model.SentencePiece
    if trainer.model_type != trainer.BPE or any(piece.type == kinds.UNUSED for piece in model.pieces):
        raise ValueError(f"{path}: only plain BPE models can be read; save the tokenizer as tokenizer.json")
    texts = [renamed.get(index, piece.piece) for index, piece in enumerate(model.pieces)]
    if len(set(texts)) != len(texts):
        raise ValueError(f"{path}: two pieces have the same text; fetch the file and tokenizer_config.json again")
    unknown = next((texts[i] for i, piece in enumerate(model.pieces) if piece.type == kinds.UNKNOWN), None)
    own = [piece for index, piece in enumerate(model.pieces) if index not in renamed]
    tokenizer = Tokenizer(
        BPE(
            vocab={text: index for index, text in enumerate(texts)},
            merges=list_merges({piece.piece: piece.score for piece in own if piece.type == kinds.NORMAL}),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=trainer.byte_fallback,
        )
    )
    steps: list[normalizers.Normalizer] = []
    if rules.precompiled_charsmap:
        steps.append(normalizers.Precompiled(rules.precompiled_charsmap))
    if rules.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if rules.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    readers = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if rules.add_dummy_prefix:
        readers.append(decoders.Strip(content=" ", left=1))
    tokenizer.decoder = decoders.Sequence(readers)
    user_defined = [piece.piece for piece in own if piece.type == kinds.USER_DEFINED]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in user_defined])
    return tokenizer


def list_merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """List every pair of pieces whose concatenation is a piece, best score first."""
    found = [
        (score, text[:cut], text[cut:])
        for text, score in scores.items()
        for cut in range(1, len(text))
        if text[:cut] in scores and text[cut:] in scores
    ]
    return [(left, right) for _, left, right in sorted(found, key=lambda merge: -merge[0])]
