"""Check stop strings and nucleus sampling: one by one, in a batch, as a stream, and against Transformers' own."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_model import build_model, draw_sample
from transformers import TopPLogitsWarper

from sa2va.inference.answer_text import AnswerText
from sa2va.inference.decoding import Decoding, keep_nucleus
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options, Request

PICTURE = draw_sample(0).frames[0]
SAID = "It is red.\n\nThe large star"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(*build_model())


def say(monkeypatch: pytest.MonkeyPatch, *rows: list[int]) -> None:
    """Make each row of the next batch say the given tokens, whatever the model would say."""

    def choose(self: Decoding) -> torch.Tensor:
        return torch.tensor([rows[row][len(self.token_ids[row])] for row in self._rows])

    monkeypatch.setattr(Decoding, "_choose", choose)


def tokens(predictor: Predictor, text: str) -> list[int]:
    return predictor.processor.tokenizer.encode(text, add_special_tokens=False)


@given(text=st.text("ab\né\u4e2d", max_size=12), stop=st.lists(st.text("ab\né\u4e2d", min_size=1, max_size=4)))
@settings(max_examples=60, deadline=None)
def test_the_text_ends_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    processor = _PROCESSOR
    ids = processor.tokenizer.encode(text, add_special_tokens=False)
    reader = AnswerText(processor, tuple(stop))
    first = min((text.find(one) for one in stop if one in text), default=len(text))
    wanted = text[:first]
    assert reader.read(ids) == wanted
    kept, cut = reader.cut(ids)
    assert cut == wanted and ids[: len(kept)] == kept and processor.decode(kept).startswith(wanted)
    assert not kept or kept == ids or not processor.decode(kept[:-1]).startswith(wanted)
    ends = [reader.has_ended(ids[:number]) for number in range(1, len(ids) + 1)]
    whole = [any(one in processor.decode(ids[:number]) for one in stop) for number in range(1, len(ids) + 1)]
    if True in whole:  # no token after the one that completes a stop string is ever decoded
        assert ends.index(True) == whole.index(True)
    else:
        assert True not in ends


_PROCESSOR = build_model()[1]


def test_a_stop_string_across_tokens_ends_each_row_at_its_own_place(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tokens(predictor, SAID)
    assert len(tokens(predictor, "\n\n")) > 1  # the stop string spans tokens
    end = predictor.processor.end_ids[0]
    say(monkeypatch, [*ids, end], [*ids, end], [*ids, end])
    options = [Options(stop=("\n\n",)), Options(), Options(stop=("large", "is r"))]
    texts = [found.text for found in predictor.predict_batch([Request(PICTURE, "What?")] * 3, options)]
    assert texts == ["It is red.", SAID, "It"]
    for one, text in zip(options, texts, strict=True):
        assert predictor.predict(PICTURE, "What?", options=one).text == text


def test_a_mask_token_after_the_cut_gives_no_mask(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    seg, end = predictor.processor.seg_id, predictor.processor.end_ids[0]
    say(monkeypatch, [*tokens(predictor, "It is"), seg, *tokens(predictor, " and"), seg, end])
    for stop, text, number in (
        ((), "It is[SEG] and[SEG]", 2),
        (("[SEG]",), "It is", 0),
        ((" and",), "It is[SEG]", 1),
        (("d[SEG]",), "It is[SEG] an", 1),
    ):
        found = predictor.predict(PICTURE, "What?", options=Options(stop=stop))
        assert (found.text, len(found.objects)) == (text, number)
    found = predictor.predict(PICTURE, "What?", options=Options(max_objects=0))
    assert (found.text, found.objects) == ("It is[SEG] and[SEG]", ())


@pytest.mark.parametrize("stop", ["\n\nT", ".\n", "\nThe", "star"])
def test_a_stream_never_shows_what_is_cut_and_the_cache_forgets_it(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    ids = tokens(predictor, SAID)
    say(monkeypatch, [*ids, predictor.processor.end_ids[0]])
    talk = predictor.open(PICTURE)
    pieces: list[str] = []
    stream: Iterator[str] = talk.stream("What?", options=Options(stop=stop))
    for piece in stream:
        pieces.append(piece)
        assert SAID.startswith("".join(pieces))
    wanted = SAID[: SAID.index(stop)]
    assert "".join(pieces) == wanted
    fresh, _ = predictor.engine.prefill([predictor.engine.open(Request(PICTURE, "What?"))])
    kept, _ = AnswerText(predictor.processor, (stop,)).cut(ids)
    assert talk._stream is not None and talk._stream.length == fresh.length + len(kept)
    assert talk._is_ended is False
    monkeypatch.undo()
    states = fresh.append(predictor.model.mllm.embed_text(kept, predictor.device))
    assert states.shape[1] == len(kept) and talk._stream.next_positions == fresh.next_positions
    follow = predictor.processor.encode_follow_up(predictor.engine.open(Request(PICTURE, "And?")).turn)
    one, other = (
        stream.append(predictor.model.mllm.embed_text(follow, predictor.device)) for stream in (talk._stream, fresh)
    )
    assert torch.allclose(one, other, atol=1e-4)


@given(seed=st.integers(0, 10_000), top_p=st.floats(0.01, 0.99), spread=st.floats(0.1, 8))
@settings(max_examples=100, deadline=None)
def test_the_nucleus_is_that_of_transformers(seed: int, top_p: float, spread: float) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=50) * spread).float()
    warped = TopPLogitsWarper(top_p)(torch.zeros(1, 0, dtype=torch.long), logits[None])[0]
    kept = keep_nucleus(logits.softmax(-1), top_p)
    total = logits.softmax(-1).sort(descending=True).values.cumsum(-1)
    if (total - top_p).abs().min() > 1e-5:  # a sum that is exactly top_p may be rounded either way
        assert torch.equal(kept > 0, warped.softmax(-1) > 0)
    assert torch.equal(kept[kept > 0], logits.softmax(-1)[kept > 0]) and kept.argmax() == logits.argmax()


def test_nucleus_sampling_is_the_same_alone_and_in_a_batch(predictor: Predictor) -> None:
    request = Request(PICTURE, "What?")
    free, narrow = Options(temperature=2.0, max_new_tokens=8), Options(temperature=2.0, top_p=1e-6, max_new_tokens=8)
    greedy = Options(max_new_tokens=8)
    texts = [found.text for found in predictor.predict_batch([request] * 3, [free, narrow, greedy])]
    assert texts[0] != texts[1] == texts[2]
    middle = Options(temperature=2.0, top_p=0.5, max_new_tokens=8)
    together = predictor.predict_batch([request] * 2, [middle, free])
    assert together[0].text == predictor.predict(PICTURE, "What?", options=middle).text
    assert together[1].text == texts[0]
