"""Looks drawn word by word: what is written down is what training reads, and packs end by clock or token."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gaze.support.gaze_model import build_decoder, clock
from torch import Tensor

from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.events import Word, collate, pack_words, write_tokens
from sa2va.gaze.model.features import Belief
from sa2va.gaze.model.rollout import CAP_AFTER, Mode, Rollout
from sa2va.gaze.scanpath import Fixation, Scanpath

WORDS = ("red", "car", "parked")


def look(rollout: Rollout, words: list[Word], belief: Tensor) -> list[list[list[Fixation]]]:
    return [rollout.run_pack(word, belief) for word in words]


@pytest.fixture(scope="module")
def decoder() -> EventDecoder:
    return build_decoder(seed=2)


@pytest.fixture
def belief(decoder: EventDecoder) -> Tensor:
    return torch.rand(decoder.config.grid.shape, generator=torch.Generator().manual_seed(0))


def test_streaming_is_one_pass(decoder: EventDecoder, belief: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens that a stream writes, and what the decoder makes of them, are those of a training pass."""
    timing = clock([300.0, 250.0, 400.0])
    written: list[tuple[Tensor, Tensor, Tensor]] = []
    real = decoder.encode

    def spy(facts: Tensor, belief: Belief, observer: Tensor, **more: Any) -> Any:
        context, cache = real(facts, belief, observer, **more)
        written.append((facts, more["valid"], context))
        return context, cache

    monkeypatch.setattr(decoder, "encode", spy)
    rollout = Rollout(decoder, num_samples=4, seed=3)
    packs = look(rollout, pack_words(WORDS, timing), belief)
    monkeypatch.undo()
    for sample in range(4):
        fixations = [(f, pack) for pack, rows in enumerate(packs) for f in rows[sample]]
        path = Scanpath.from_packs(
            [f for f, _ in fixations], [pack for _, pack in fixations], WORDS, width=512, height=320
        )
        batch = collate([write_tokens(path, timing)], [belief.expand(5, -1, -1)])
        own = [(facts[sample, 0], context[sample, 0]) for facts, valid, context in written if valid[sample, 0]]
        facts = torch.stack([row for row, _ in own])
        assert (facts - batch.facts[0, : len(facts)]).abs().max() < 1e-2  # px and ms, of float32
        believed = Belief.of(batch.beliefs, decoder.config.grid).rows(torch.zeros(1, 1, dtype=torch.long), batch.packs)
        with torch.no_grad():
            context, _ = decoder.encode(batch.facts, believed, rollout.observer[sample : sample + 1])
        assert (torch.stack([row for _, row in own]) - context[0, : len(own)]).abs().max() < 1e-4


def test_fixations_lie_in_their_packs(decoder: EventDecoder, belief: Tensor) -> None:
    words = pack_words(WORDS, clock([300.0, 250.0, 400.0]))
    packs = look(Rollout(decoder, num_samples=20), words, belief)
    for sample in range(20):
        starts = [fixation.start for rows in packs for fixation in rows[sample]]
        assert starts == sorted(starts) and starts
        for word, rows in zip(words[1:], packs[1:], strict=True):
            assert all(f.start >= word.onset and (word.end is None or f.start < word.end) for f in rows[sample])
            assert len(rows[sample]) <= CAP_AFTER


def test_packs_end_by_a_token_where_there_is_no_clock(decoder: EventDecoder, belief: Tensor) -> None:
    timing = clock([300.0, 250.0, 400.0])
    hidden = pack_words(WORDS, timing, clocked=False)
    moved = [replace(word, onset=word.onset * 3, end=None if word.end is None else word.end * 3) for word in hidden]
    one, other = (look(Rollout(decoder, num_samples=10, seed=1), words, belief) for words in (hidden, moved))
    assert [[len(row) for row in rows] for rows in one] == [[len(row) for row in rows] for rows in other]
    assert len({len(row) for rows in one for row in rows}) > 1


def test_mode_takes_no_chance(decoder: EventDecoder, belief: Tensor) -> None:
    words = pack_words(WORDS, None)
    one, other = (look(Rollout(decoder, num_samples=2, seed=seed, mode="mode"), words, belief) for seed in (0, 9))
    assert one == other
    for rows in one:
        assert len(rows[0]) == len(rows[1])
        for first, second in zip(*rows, strict=True):
            assert first.x == second.x and first.y == second.y
            assert first.duration == pytest.approx(second.duration, rel=1e-4)


def count_fixations(decoder: EventDecoder, words: list[Word], mode: Mode, number: int) -> list[int]:
    """Fixations of each sample where there is no target, so that nothing holds anybody back."""
    rollout = Rollout(decoder, num_samples=number, seed=1, mode=mode)
    packs = look(rollout, words, torch.zeros(decoder.config.grid.shape))
    return [sum(len(rows[sample]) for rows in packs) for sample in range(number)]


def test_mode_stops_where_half_of_the_samples_have() -> None:
    """A hazard far below a half at every step still ends the look, at the median of the samples' counts."""
    decoder = build_decoder(seed=2)
    last = decoder.outlook[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():  # the same chances at every step, whatever has been seen
        last.weight.zero_()
        last.bias[:3] = torch.tensor([0.6, 0.3, 0.1]).log()  # look, next pack, done: where a token ends the packs
        last.bias[3] = torch.tensor(0.15).logit()  # stop, where the clock does
    words = pack_words(("red", "car") * 4, None)
    drawn = count_fixations(decoder, words, "sample", 200)
    assert count_fixations(decoder, words, "mode", 2) == [5, 5]  # 0.85 ** 5 < 0.5
    assert np.median(drawn) == pytest.approx(5, abs=1)
    # Each pack is left at its second step, 0.67 ** 2 < 0.5, and the look ends at the seventh, 0.9 ** 7 < 0.5.
    hidden = pack_words(("red", "car") * 4, None, clocked=False)
    assert count_fixations(decoder, hidden, "mode", 2) == [3, 3]


def test_a_late_word_holds_the_eyes_until_it_comes(decoder: EventDecoder, belief: Tensor) -> None:
    rollout = Rollout(decoder, num_samples=8)
    words = [Word(None, 0.0, 50.0), Word("red", 50.0, 300.0), Word("car", 2000.0, 2400.0)]
    packs = look(rollout, words, belief)
    assert any(packs[2]) and all(f.start >= 2000 for row in packs[2] for f in row)
