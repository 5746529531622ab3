"""Read a SentencePiece model file and rebuild it as a native tokenizer that gives the same ids.

Flow: tokenizer.model -> pieces and rules -> tokenizers.Tokenizer (BPE with byte fallback) -> tokenizers.py.
Source: SentencePiece, arXiv:1808.06226; its sentencepiece_model.proto for the numbers of the fields.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from struct import unpack

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from sa2va.files.read_limits import read_bounded

SPACE = "\u2581"  # how pieces write a space
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # kinds of pieces
BPE_MODEL = 2
MAX_BYTES = 64 * 2**20
MAX_PIECE = 1_000  # characters


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    kind: int


@dataclass(frozen=True, kw_only=True)
class SentencePieceModel:
    """What a model file says about cutting text."""

    pieces: tuple[Piece, ...]  # by id
    is_bpe: bool
    byte_fallback: bool
    charsmap: bytes  # compiled character normalisation; empty = none
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of one protocol buffer message: number, and an integer or bytes."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise IndexError(f"number at byte {place}")

    while place < len(data):
        key = number()
        kind = key & 7
        if kind == 0:
            yield key >> 3, number()
            continue
        size = {1: 8, 5: 4}.get(kind) or (number() if kind == 2 else -1)
        if size < 0 or place + size > len(data):
            raise IndexError(f"field of kind {kind} at byte {place}")
        yield key >> 3, data[place : place + size]
        place += size


def _message(data: int | bytes) -> dict[int, int | bytes]:
    assert isinstance(data, bytes)
    return dict(_fields(data))


def _read_piece(data: int | bytes) -> Piece:
    values = _message(data)
    text, score, kind = values.get(1, b""), values.get(2, bytes(4)), values.get(3, NORMAL)
    assert isinstance(text, bytes) and isinstance(score, bytes) and isinstance(kind, int)
    return Piece(text.decode(), unpack("<f", score)[0], kind)


def read_model(path: Path) -> SentencePieceModel:
    """Read a model file.

    Raises:
        ValueError: it is damaged or no SentencePiece model.
    """
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    try:
        for number, value in _fields(read_bounded(path, MAX_BYTES)):
            if number == 1:
                pieces.append(_read_piece(value))
            elif number == 2:
                trainer = _message(value)
            elif number == 3:
                normalizer = _message(value)
    except (IndexError, AssertionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged or no SentencePiece model; fetch it again") from error
    if any(len(piece.text) > MAX_PIECE for piece in pieces):
        raise ValueError(f"{path} holds a piece of more than {MAX_PIECE} characters; fetch it again")
    if not pieces:
        raise ValueError(f"{path} holds no pieces; expected a SentencePiece model")
    charsmap = normalizer.get(2, b"")
    return SentencePieceModel(
        pieces=tuple(pieces),
        is_bpe=trainer.get(3, 1) == BPE_MODEL,
        byte_fallback=bool(trainer.get(35, 0)),
        charsmap=charsmap if isinstance(charsmap, bytes) else b"",
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
    )


def list_merges(pieces: Mapping[str, Piece]) -> list[tuple[str, str]]:
    """Return every way to put a piece together from two others, best score first."""
    found = [
        (piece.score, piece.text[:cut], piece.text[cut:])
        for piece in pieces.values()
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in pieces and piece.text[cut:] in pieces
    ]
    return [(left, right) for _, left, right in sorted(found, key=lambda merge: -merge[0])]


def build_tokenizer(path: Path, renamed: Mapping[int, str]) -> Tokenizer:
    """Rebuild a SentencePiece model natively.

    Pieces that the model's makers defined by hand become added tokens: text that spells one out literally gets
    a space before and after it where SentencePiece would write only one at the start.

    Args:
        path: of the model file.
        renamed: tokens that a tokenizer's configuration puts in the place of a piece, by id.

    Raises:
        ValueError: the file is damaged, or of a kind that cannot be rebuilt exactly.
    """
    model = read_model(path)
    if not model.is_bpe or any(piece.kind == UNUSED for piece in model.pieces):
        raise ValueError(f"{path}: only plain BPE models can be read; save the tokenizer as tokenizer.json")
    texts = [renamed.get(index, piece.text) for index, piece in enumerate(model.pieces)]
    if len(set(texts)) != len(texts):
        raise ValueError(f"{path}: two pieces have the same text; fetch the file and tokenizer_config.json again")
    usable = {piece.text: piece for i, piece in enumerate(model.pieces) if piece.kind == NORMAL and i not in renamed}
    unknown = next((texts[i] for i, piece in enumerate(model.pieces) if piece.kind == UNKNOWN), None)
    tokenizer = Tokenizer(
        BPE(
            vocab={text: index for index, text in enumerate(texts)},
            merges=list_merges(usable),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    )
    rules: list[normalizers.Normalizer] = []
    if model.charsmap:
        rules.append(normalizers.Precompiled(model.charsmap))
    if model.remove_extra_whitespaces:
        rules += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.add_dummy_prefix:
        rules.append(normalizers.Prepend(SPACE))
    tokenizer.normalizer = normalizers.Sequence([*rules, normalizers.Replace(" ", SPACE)])
    readers = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.add_dummy_prefix:
        readers.append(decoders.Strip(content=" ", left=1))
    tokenizer.decoder = decoders.Sequence(readers)
    by_hand = [piece for i, piece in enumerate(model.pieces) if piece.kind == USER_DEFINED and i not in renamed]
    tokenizer.add_tokens([AddedToken(piece.text, normalized=False) for piece in by_hand])
    return tokenizer
