"""Check that every tokenizer format gives the ids of its own library, and that no code is run."""

import io
import json
import random
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sa2va.checkpoints.tokenizers import load_tokenizer
from sa2va.tokens import ADDED_TOKENS

WORDS = "please segment the red circle where is café naïve straße 日本 круг of and left right user assistant".split()
TEXTS = st.text(st.sampled_from("abcdefghmnoprstu ABC\n\t.,?12日круé\U0001f600<|_"), max_size=40)
KINDS = {
    "as InternLM2": {"add_dummy_prefix": False, "remove_extra_whitespaces": False},
    "as Llama": {"add_dummy_prefix": True, "remove_extra_whitespaces": False},
    "normalising": {"add_dummy_prefix": True, "normalization_rule_name": "nmt_nfkc"},
}
CHAT = {"<|im_end|>": "[UNUSED_TOKEN_145]", "<|im_start|>": "[UNUSED_TOKEN_146]"}  # added token -> piece it replaces


def train_model(path: Path, **options: object) -> sentencepiece.SentencePieceProcessor:
    """Train a small SentencePiece model; write it to a file."""
    rng = random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=8)) + rng.choice(".?!") + str(rng.randint(0, 999)) for _ in range(500)]
    model = io.BytesIO()
    defaults = {
        "normalization_rule_name": "identity",
        "user_defined_symbols": list(CHAT.values()),
        "model_type": "bpe",
        "vocab_size": 400,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        byte_fallback=True,
        split_digits=True,
        minloglevel=2,
        **(defaults | options),
    )
    path.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def write_settings(folder: Path, model: sentencepiece.SentencePieceProcessor) -> dict[int, str]:
    """Write InternLM2's files for tokenizer.model; return the added tokens by id."""
    tokens = {0: "<unk>", 1: "<s>", 2: "</s>"}
    tokens |= {model.piece_to_id(piece): token for token, piece in CHAT.items()}
    tokens |= {len(model) + n: token for n, token in enumerate(("<img>", "</img>", "<IMG_CONTEXT>", *ADDED_TOKENS))}
    values = {
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "tokenizer_class": "InternLM2Tokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "added_tokens_decoder": {str(i): {"content": t, "special": True} for i, t in tokens.items()},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    (folder / "tokenization_internlm2.py").write_text("raise RuntimeError('code of the folder has run')")
    return tokens


@pytest.fixture(scope="module", params=KINDS)
def rebuilt(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[sentencepiece.SentencePieceProcessor, PreTrainedTokenizerBase, dict[int, str]]:
    folder = tmp_path_factory.mktemp("sentencepiece")
    model = train_model(folder / "tokenizer.model", **KINDS[request.param])
    tokens = write_settings(folder, model)
    return model, load_tokenizer(folder), tokens


Rebuilt = tuple[sentencepiece.SentencePieceProcessor, PreTrainedTokenizerBase, dict[int, str]]


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_ids_are_those_of_sentencepiece(rebuilt: Rebuilt, text: str) -> None:
    model, tokenizer, _ = rebuilt
    ids = model.encode(text)
    assert tokenizer.encode(text, add_special_tokens=False) == ids
    assert tokenizer.encode(text) == [1, *ids]  # InternLM2 puts <s> before every text
    assert tokenizer.decode(ids) == model.decode(ids)


@settings(max_examples=50, deadline=None)
@given(parts=st.lists(TEXTS, min_size=2, max_size=4), data=st.data())
def test_text_between_added_tokens_is_encoded_piece_by_piece(
    rebuilt: Rebuilt, parts: list[str], data: st.DataObject
) -> None:
    model, tokenizer, tokens = rebuilt
    chosen = [data.draw(st.sampled_from(sorted(tokens)[1:])) for _ in parts]
    text = "".join(part + tokens[index] for part, index in zip(parts, chosen, strict=True))
    expected = [i for part, index in zip(parts, chosen, strict=True) for i in (*model.encode(part), index)]
    assert tokenizer.encode(text, add_special_tokens=False) == expected


def test_a_literal_special_token_is_text_on_request(rebuilt: Rebuilt) -> None:
    model, tokenizer, _ = rebuilt
    for text in ("[SEG]", "a <s> b", "</img>"):
        ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert ids == model.encode(text)


def test_a_rebuilt_tokenizer_survives_saving(rebuilt: Rebuilt, tmp_path: Path) -> None:
    _, tokenizer, _ = rebuilt
    tokenizer.save_pretrained(tmp_path)
    assert "auto_map" not in (tmp_path / "tokenizer_config.json").read_text()
    again = load_tokenizer(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    for text in ("user\nwhere is the red circle?", "日本<|im_end|>\n", "\U0001f600", ""):
        assert again.encode(text) == tokenizer.encode(text)


# ---- byte-level BPE, as Qwen2 has it

QWEN2_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>", *ADDED_TOKENS)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write one tokenizer as tokenizer.json, and as vocab.json + merges.txt."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    cuts = pre_tokenizers.Split(Regex(QWEN2_CUTS), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator([" ".join(WORDS)] * 20, trainers.BpeTrainer(vocab_size=360, initial_alphabet=alphabet))
    size = core.get_vocab_size()
    whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    core.model.save(str(parts))
    added = {str(size + n): {"content": token, "special": True} for n, token in enumerate(CHAT_TOKENS)}
    values = {"added_tokens_decoder": added, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None}
    (parts / "tokenizer_config.json").write_text(json.dumps(values | {"tokenizer_class": "Qwen2Tokenizer"}))
    core.add_special_tokens(list(CHAT_TOKENS))
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>").save_pretrained(
        whole
    )
    return whole, parts


@settings(max_examples=200, deadline=None)
@given(text=TEXTS, token=st.sampled_from(CHAT_TOKENS))
def test_both_byte_level_forms_give_the_same_ids(byte_level: tuple[Path, Path], text: str, token: str) -> None:
    whole, parts = (_load_once(folder) for folder in byte_level)
    ids = whole.encode(text + token + text)
    assert parts.encode(text + token + text) == ids
    assert parts.decode(ids) == whole.decode(ids)
    assert (parts.eos_token_id, parts.pad_token_id) == (whole.eos_token_id, whole.pad_token_id)
    assert parts.get_vocab() == whole.get_vocab()


@cache
def _load_once(folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(folder)


def test_a_subfolder_holds_the_tokenizer(byte_level: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(byte_level[0], tmp_path / "tokenizer")
    assert load_tokenizer(tmp_path).get_vocab() == _load_once(byte_level[0]).get_vocab()


# ---- refusals


def cut_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer; expected tokenizer.json"),
        (lambda folder: cut_file(folder / "tokenizer.json"), "tokenizer.json is not valid JSON"),
        (lambda folder: cut_file(folder / "tokenizer_config.json"), "tokenizer"),
    ],
)
def test_damaged_fast_files_are_refused(
    byte_level: tuple[Path, Path], tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(byte_level[0], folder)
    spoil(folder)
    with pytest.raises(ValueError, match=message) as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)


def shift_ids(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    last = max(values["added_tokens_decoder"], key=int)
    values["added_tokens_decoder"][str(int(last) + 7)] = {"content": "<far>", "special": True}
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("options", "spoil", "message"),
    [
        (
            {},
            lambda folder: cut_file(folder / "tokenizer.model"),
            "is damaged or no SentencePiece model",
        ),
        ({}, lambda folder: (folder / "tokenizer.model").write_bytes(b""), "the file is empty"),
        ({}, lambda folder: (folder / "tokenizer.model").write_bytes(b"\x48\x01"), "holds 0 pieces"),
        ({}, lambda folder: cut_file(folder / "tokenizer_config.json"), "tokenizer_config.json is not valid JSON"),
        ({}, shift_ids, r"token <far> gets id \d+, not \d+"),
        ({"model_type": "unigram", "vocab_size": 320}, lambda folder: None, "only plain BPE models"),
    ],
)
def test_damaged_sentencepiece_files_are_refused(
    tmp_path: Path, options: dict[str, object], spoil: Callable[[Path], None], message: str
) -> None:
    write_settings(tmp_path, train_model(tmp_path / "tokenizer.model", **options))
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_settings(tmp_path, train_model(tmp_path / "tokenizer.model"))
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ValueError, match=r"tokenizer\.model.*; run: pip install -U 'sa2va\[convert\]'") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_a_sentencepiece_file_is_bounded_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x00" * (5 * 2**20))  # 5 million pieces without a text
    with pytest.raises(ValueError, match="8388608"):
        load_tokenizer(tmp_path)
    model = sentencepiece_model_pb2.ModelProto(pieces=[{"piece": "a" * 2_000}])
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="holds a piece of more than 1000 characters"):
        load_tokenizer(tmp_path)
