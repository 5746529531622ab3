"""Nothing of a later word is visible: proved on every backbone, and shown that a model which leaks is caught."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from gaze.support.gaze_model import build_gaze, clock, draw_path, draw_picture
from support.small_families import OFFICIAL, build_family
from torch import Tensor

from sa2va.gaze.model import events
from sa2va.gaze.model.events import EventBatch, collate, write_tokens
from sa2va.gaze.model.grounding import WordGrounder
from sa2va.gaze.model.losses import TokenTerms, token_terms
from sa2va.gaze.model.scanpath_model import Grounding, ScanpathModel, build_scene_maps
from sa2va.gaze.predictor import GazePredictor
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.timing import SpeechTiming
from sa2va.model.families.protocol import TextInput

KEPT = 2  # words that both expressions begin with
SAME_LENGTH = ("red", "circle", "left", "small"), ("red", "circle", "blue", "large")
LONGER = ("red", "circle", "extraordinarily", "blueish", "left", "of", "it"), ("red", "circle", "x")


@dataclass(frozen=True)
class Passed:
    """One causal pass over one expression, as it is trained."""

    terms: TokenTerms
    batch: EventBatch
    heard: Grounding

    def early(self, row: int = 0) -> Tensor:
        """Everything that is said of packs up to the last kept word, (Z, tokens, terms)."""
        keep = (self.batch.packs[row] <= KEPT) & self.batch.valid[row]
        names = ("place", "duration", "gap", "stop", "next")
        return torch.stack([getattr(self.terms, name)[:, row, keep] for name in names], dim=-1)


def make_path(words: tuple[str, ...], timing: SpeechTiming) -> Scanpath:
    """The same look up to the kept words, then another one."""
    ends = timing.ends[KEPT - 1]
    first = [f for f in draw_path(("a", "b"), clock([300.0, 300.0])).fixations if f.start < ends]
    later = draw_path(words, timing, seed=len("".join(words))).fixations
    begin = first[-1].start + first[-1].duration + 400
    moved = [Fixation(f.x, f.y, begin + 200 * n, 100.0) for n, f in enumerate(later[:4])]
    return Scanpath.from_timing([*first, *moved], words, timing, width=512, height=320)


def run(model: ScanpathModel, expressions: tuple[tuple[str, ...], ...], lengths: tuple[float, ...]) -> Passed:
    """Run one training pass over expressions about one picture, the first word 300 ms, the later ones as given."""
    clocks = [clock([300.0, 300.0, *([length] * (len(w) - 2))]) for w, length in zip(expressions, lengths, strict=True)]
    heard = model.ground([draw_picture(5)] * len(expressions), expressions)
    rows = [write_tokens(make_path(words, timing), timing) for words, timing in zip(expressions, clocks, strict=True)]
    batch = replace(collate(rows, list(heard.beliefs)), beliefs=heard.beliefs, states=heard.states)
    return Passed(token_terms(model.decoder, batch, scene=build_scene_maps(model.decoder, heard)), batch, heard)


def check_swap(model: ScanpathModel) -> None:
    """Swap every later word, their number, their tokens, the length of the sound and the padding of the batch."""
    with torch.no_grad():
        one, other = (run(model, (words,), (300.0,)) for words in SAME_LENGTH)
        assert torch.equal(one.early(), other.early()), "equal length: not bit for bit"
        for words in LONGER:
            assert (run(model, (words,), (170.0,)).early() - one.early()).abs().max() < 1e-5, (
                f"{words} changed the past"
            )
        padded = run(model, (SAME_LENGTH[0], LONGER[0]), (300.0, 500.0))
        assert (padded.early() - one.early()).abs().max() < 1e-5, "padding changed the past"


@pytest.fixture(scope="module", params=list(OFFICIAL))
def model(request: pytest.FixtureRequest) -> ScanpathModel:
    return build_gaze(parts=build_family(request.param))


def test_later_words_change_nothing(model: ScanpathModel) -> None:
    check_swap(model)


def test_one_pass_is_the_stream(model: ScanpathModel) -> None:
    words = LONGER[0]
    with torch.no_grad():
        heard = model.ground([draw_picture(5)], [words])
        stream = model.grounder.open_stream(draw_picture(5))
        states, logits = [stream.state], [stream.probe()]
        for word in words:
            stream.append(word)
            states.append(stream.state)
            logits.append(stream.probe())
    assert (torch.stack(states) - heard.states[0, :-1]).abs().max() < 1e-4
    assert (torch.stack(logits) - heard.mask_logits[0, :-1]).abs().max() < 1e-4


def test_no_gradient_reaches_a_later_token(model: ScanpathModel, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Tensor] = []
    real = model.sa2va.mllm.run_text

    def spy(inputs: TextInput, cache: object = None) -> Tensor:
        embeds = inputs.embeds.detach().requires_grad_(True)
        kept.append(embeds)
        return real(replace(inputs, embeds=embeds))

    monkeypatch.setattr(model.sa2va.mllm, "run_text", spy)
    words = SAME_LENGTH[0]
    passed = run(model, (words,), (300.0,))
    passed.early().sum().backward()
    (gradient,) = (embeds.grad for embeds in kept)
    assert gradient is not None
    prompts = model.grounder.build_prompts([draw_picture(5)], [words])
    end = int(model.grounder.find_word_ends(prompts, [words])[0, KEPT])
    main, size = prompts.input_ids.shape[1], len(model.grounder.branch)
    assert (gradient[0, end + 1 : main] == 0).all()
    assert (gradient[0, main + (KEPT + 1) * size :] == 0).all()
    assert gradient[0, end].abs().sum() > 0 and gradient[0, main + KEPT * size].abs().sum() > 0


def test_streamed_packs_are_the_same_bit_for_bit(model: ScanpathModel) -> None:
    predictor = GazePredictor(model)
    for mode in ("sample", "mode"):
        heard = []
        for words in (SAME_LENGTH[0], *LONGER):
            stream = predictor.start(draw_picture(5)[0], 2, seed=4, mode=mode)
            packs = [stream.bot, *[stream.hear(word) for word in words[: KEPT + 1]]]
            heard.append(packs[: KEPT + 1])
        assert all(packs == heard[0] for packs in heard)
        assert any(len(pack) for packs in heard[0][1:] for pack in packs)


# ---- models that leak


def _see_everything(grounder: WordGrounder) -> None:
    real = grounder.add_branches

    def leak(inputs: TextInput, ends: Tensor) -> TextInput:
        made = real(inputs, ends)
        mask = made.attention_mask.clone()
        length = inputs.embeds.shape[1]
        mask[:, :, :length, :length] = 0
        return replace(made, attention_mask=mask)

    grounder.add_branches = leak  # ty: ignore[invalid-assignment]


def _tell_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    real = events.pack_words

    def leak(words: tuple[str, ...], timing: SpeechTiming, *, clocked: bool = True) -> list[events.Word]:
        first, *rest = real(words, timing, clocked=clocked)
        return [replace(first, onset=timing.duration), *rest]

    monkeypatch.setattr(events, "pack_words", leak)


@pytest.mark.parametrize("leak", ["bidirectional mask", "length of the sound"])
def test_a_leak_is_caught(leak: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_gaze()
    check_swap(model)
    plant: dict[str, Callable[[], None]] = {
        "bidirectional mask": lambda: _see_everything(model.grounder),
        "length of the sound": lambda: _tell_the_length(monkeypatch),
    }
    plant[leak]()
    with pytest.raises(AssertionError, match=r"bit for bit|changed the past"):
        check_swap(model)
