"""Streams of gaze: packs word by word, many at once, saved and loaded, and what they refuse."""

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gaze.support.gaze_model import build_decoder, build_gaze, clock, draw_picture
from PIL import Image
from support.fake_hub import FakeHub
from support.small_model import build_model

import sa2va
import sa2va.gaze.predictor as predictor_module
from sa2va.checkpoints.folder import save_checkpoint
from sa2va.gaze.metrics.distance import dtw
from sa2va.gaze.model.events import write_tokens
from sa2va.gaze.model.grounding import canvas_maps
from sa2va.gaze.model.rollout import Rollout
from sa2va.gaze.model.scanpath_model import fingerprint
from sa2va.gaze.predictor import GazePredictor, load_decoder, save_gaze
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.timing import SpeechTiming

WORDS = ("red", "circle", "left")


@pytest.fixture(scope="module")
def predictor() -> GazePredictor:
    return GazePredictor(build_gaze())


def test_predict_is_the_stream_run_to_its_end(predictor: GazePredictor) -> None:
    image, timing = draw_picture(1)[0], clock([300.0, 250.0, 400.0])
    paths = predictor.predict(image, " ".join(WORDS), timing, num_samples=3, seed=5)
    stream = predictor.start(image, 3, seed=5, first_onset=timing.onsets[0])
    packs = [stream.bot]
    packs += [stream.hear(w, on, off - on) for w, on, off in zip(WORDS, timing.onsets, timing.ends, strict=True)]
    packs.append(stream.end())
    assert [list(path.packs) for path in paths] == [list(row) for row in zip(*packs, strict=True)]
    assert paths[0].words == WORDS and (paths[0].width, paths[0].height) == (64, 64)
    for path in paths:
        for number, pack in enumerate(path.packs[1:-1]):
            begin, end = timing.onsets[number], timing.ends[number]
            assert all(begin <= fixation.start < end for fixation in pack.fixations)


@pytest.mark.parametrize("first", [0.0, 30.0, 63.7, 250.0])
def test_training_reads_the_tokens_that_predict_writes(
    predictor: GazePredictor, first: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clock for all: the packs of a prediction are those of `timing.py`, and its tokens those of training."""
    written, rollouts = [], []
    real = predictor.model.decoder.encode

    class Watched(Rollout):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            rollouts.append(self)

    def spy(facts: torch.Tensor, *args: Any, **more: Any) -> Any:
        written.append((facts[:, 0], more["valid"][:, 0]))
        return real(facts, *args, **more)

    monkeypatch.setattr(predictor.model.decoder, "encode", spy)
    monkeypatch.setattr(predictor_module, "Rollout", Watched)
    # Words that begin late, with a pause between two of them, in a sound that goes on after the last one.
    moments = (first, first + 300.1, first + 300.1, first + 550.7, first + 610.3, first + 1000.9)
    timing = SpeechTiming(onsets=moments[::2], ends=moments[1::2], duration=first + 1040.2)
    paths = predictor.predict(draw_picture(1)[0], " ".join(WORDS), timing, num_samples=12, last_fixation="soft")
    (rollout,) = rollouts
    for sample, path in enumerate(paths):
        seen = rollout.samples[sample].history.fixations
        recorded = Scanpath.from_timing(seen, WORDS, timing, width=512, height=320)
        assert recorded.sizes == path.sizes
        assert all(fixation.start < first for fixation in path.packs[0].fixations)
        trained = torch.tensor([token["facts"] for token in write_tokens(recorded, timing)])
        assert torch.equal(torch.stack([facts[sample] for facts, valid in written if valid[sample]]), trained)
    assert first < 200 or any(f.start > 60 for path in paths for f in path.packs[0].fixations)


def test_a_first_word_cannot_begin_before_what_was_given_out(predictor: GazePredictor) -> None:
    image = draw_picture(1)[0]
    stream = predictor.start(image, 1)
    with pytest.raises(ValueError, match=r"onset 0.0 ms lies before 50.0 ms, the first_onset of start"):
        stream.hear("red", 0.0, 300.0)
    early = predictor.start(image, 20, first_onset=0.0)
    assert all(fixation.start < 0 for pack in early.bot for fixation in pack.fixations)
    assert all(fixation.start >= 0 for pack in early.hear("red", 0.0, 300.0) for fixation in pack.fixations)


def test_a_sample_is_the_same_among_few_and_many(predictor: GazePredictor) -> None:
    image = draw_picture(2)[0]
    few, many = (predictor.predict(image, "red circle", num_samples=n, seed=1) for n in (2, 5))
    for one, other in zip(few, many[:2], strict=True):
        assert one.sizes == other.sizes
        assert np.allclose(one.points, other.points, atol=1e-2)
    assert len({path.points.tobytes() for path in many}) == 5
    again = predictor.predict(image, "red circle", num_samples=2, seed=1)
    assert [path.to_json() for path in again] == [path.to_json() for path in few]


def test_consensus_is_the_drawn_scanpath_most_like_the_others(predictor: GazePredictor) -> None:
    image = draw_picture(2)[0]
    drawn = predictor.predict(image, "red circle", num_samples=7, seed=1)
    (chosen,) = predictor.predict(image, "red circle", num_samples=7, seed=1, mode="consensus")

    def distance(path: Scanpath) -> float:
        return sum(dtw(path.points, one.points) / max(len(path.points), len(one.points)) for one in drawn)

    assert chosen == min(drawn, key=distance)
    with pytest.raises(
        ValueError, match=r"mode 'consensus': expected sample or mode; consensus needs whole scanpaths, use predict"
    ):
        predictor.start(image, mode="consensus")


def test_streams_run_side_by_side(predictor: GazePredictor) -> None:
    images = [draw_picture(seed)[0] for seed in (1, 2)]
    alone = [predictor.predict(image, "red circle", num_samples=2) for image in images]
    streams = [predictor.start(image, 2) for image in images]
    for word in ("red", "circle"):
        for stream in streams:
            stream.hear(word)
    for stream, paths in zip(streams, alone, strict=True):
        stream.end()
        assert stream.scanpaths[0].to_json()["packs"] == paths[0].to_json()["packs"]


def test_a_hard_landing_ends_on_the_target(predictor: GazePredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    belief = torch.zeros(predictor.model.decoder.config.grid.shape)
    belief[6:9, 9:12] = 1  # canvas 288..384, 192..288, all of it on the picture
    monkeypatch.setattr(predictor.model, "belief", lambda logits, size: belief[None])
    image = draw_picture(1)[0]
    rates = {}
    for last_fixation in ("hard", "soft"):
        paths = predictor.predict(image, "red circle", num_samples=20, last_fixation=last_fixation)
        canvas = [path.points[-1] * 5 + (96, 0) for path in paths]
        # A cell's mass spreads half a cell beyond it.
        rates[last_fixation] = np.mean([272 <= x <= 400 and 176 <= y <= 304 for x, y in canvas])
    assert rates["hard"] == 1 > rates["soft"]


def test_a_hard_landing_holds_a_doubtful_target_too(predictor: GazePredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thin or doubtful mask fills no cell by half, but it is somewhere."""
    belief = torch.full(predictor.model.decoder.config.grid.shape, 0.02)
    belief[6:9, 9:12] = 0.3
    monkeypatch.setattr(predictor.model, "belief", lambda logits, size: belief[None])
    paths = predictor.predict(draw_picture(1)[0], "red circle", num_samples=20)
    canvas = [path.points[-1] * 5 + (96, 0) for path in paths]
    assert all(272 <= x <= 400 and 176 <= y <= 304 for x, y in canvas)


def test_the_target_so_far_has_the_size_of_the_picture(predictor: GazePredictor) -> None:
    stream = predictor.start(Image.fromarray(draw_picture(3)[0]).resize((90, 60)), 1)
    stream.hear("red")
    assert stream.target.mask.shape == (60, 90) and stream.target.mask.dtype == bool
    assert 0 <= stream.target.score <= 1


def test_maps_reach_the_canvas_between_bars() -> None:
    """A picture half as wide as the canvas shows it in the middle; its left half stays left."""
    maps = torch.zeros(1, 1, 8, 8)
    maps[..., :4] = 1
    grid = build_decoder().config.grid
    cells = canvas_maps(maps, (256, 320), grid)[0, 0]
    assert cells.shape == (10, 16)
    assert (cells[:, :4] == 0).all() and (cells[:, 12:] == 0).all()
    assert (cells[:, 4:7] > 0.99).all() and (cells[:, 9:12] < 0.01).all()


@pytest.mark.parametrize(
    "words", [["🙂", "红色的圆"], ["red"] * 12, ["antidisestablishmentarianism" * 3], ["[SEG]", "<img>"]]
)
def test_any_word_can_be_heard(predictor: GazePredictor, words: list[str]) -> None:
    (path,) = predictor.predict(draw_picture(1)[0], " ".join(words), num_samples=1)
    assert list(path.words) == words and len(path.fixations) >= 1


@pytest.mark.slow
def test_two_hundred_words_take_one_after_the_other(predictor: GazePredictor) -> None:
    (path,) = predictor.predict(
        draw_picture(1)[0], " ".join(["red", "circle"] * 100), num_samples=1, last_fixation="soft"
    )
    assert len(path.packs) == 202


def test_bad_input_is_refused_in_one_line(predictor: GazePredictor) -> None:
    image = draw_picture(1)[0]
    stream = predictor.start(image, 1)
    stream.hear("red", 50, 300)
    calls = {
        "at least one word": lambda: predictor.predict(image, "  "),
        "at most 256; shorten it": lambda: predictor.predict(image, "a " * 300),
        "timing of 2: expected equal counts": lambda: predictor.predict(image, "red", clock([300, 300])),
        "expected a word, got no text": lambda: stream.hear(" "),
        "one word at a time": lambda: stream.hear("red circle"),
        "onset 100.0 ms lies before 350.0 ms": lambda: stream.hear("circle", 100),
        "duration -5: expected a number of ms": lambda: stream.hear("circle", None, -5),
        "onset nan": lambda: stream.hear("circle", math.nan),
        "onset 1e.20: expected a number of ms, 0 to 3,600,000": lambda: stream.hear("circle", 1e20),
        "duration 1000000000000000.0": lambda: stream.hear("circle", None, 1e15),
        "first onset 1e.308": lambda: predictor.start(image, first_onset=1e308),
        "not valid UTF-8": lambda: stream.hear("\ud800"),
        "2.5 samples": lambda: predictor.start(image, 2.5),  # ty: ignore[invalid-argument-type]
        "'3' samples": lambda: predictor.start(image, "3"),  # ty: ignore[invalid-argument-type]
        "seed None": lambda: predictor.start(image, 2, None),  # ty: ignore[invalid-argument-type]
        "mode 'best'": lambda: predictor.start(image, mode="best"),
        "last_fixation 'firm'": lambda: predictor.start(image, last_fixation="firm"),
        "0 samples": lambda: predictor.start(image, 0),
        "expected a picture, got a video": lambda: predictor.start(np.zeros((3, 8, 8, 3), np.uint8)),
        "no word has been heard": lambda: predictor.start(image, 1).end(),
        "call end": lambda: stream.scanpaths,
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    stream.hear("circle", np.float32(400), np.int64(100))  # numbers of any kind are times
    stream.end()
    with pytest.raises(ValueError, match="the stream has ended; start a new one"):
        stream.hear("circle")


def test_gaze_weights_lie_beside_the_model(tmp_path: Path) -> None:
    parts = build_model()
    model = build_gaze(parts=parts)
    save_checkpoint(parts[0], parts[1].tokenizer, tmp_path, torch.float32)
    with pytest.raises(ValueError, match=r"has no gaze.json: no gaze weights"):
        sa2va.load_gaze(tmp_path)
    save_gaze(model.decoder, tmp_path)
    image = draw_picture(1)[0]
    loaded = sa2va.load_gaze(tmp_path, device="cpu")
    ours = GazePredictor(model).predict(image, "red circle", num_samples=2)
    assert [p.to_json() for p in loaded.predict(image, "red circle", num_samples=2)] == [p.to_json() for p in ours]
    (tmp_path / "gaze.json").write_text('{"decoder": {"width": 16}}')
    with pytest.raises(ValueError, match=r"gaze.safetensors does not fit gaze.json"):
        load_decoder(tmp_path)
    for text in ('{"decoder": {"wide": 16}}', '{"width": 16}', "{"):
        (tmp_path / "gaze.json").write_text(text)
        with pytest.raises(ValueError, match=r"describes no gaze decoder .*; use the file that was saved with"):
            load_decoder(tmp_path)
    save_gaze(build_decoder(), tmp_path)
    with pytest.raises(ValueError, match="made for states and image features of widths"):
        sa2va.load_gaze(tmp_path, device="cpu")


@pytest.mark.parametrize("travel", [pickle.dumps, copy.deepcopy])
def test_gaze_says_that_it_stays_in_its_process(predictor: GazePredictor, travel: Callable[[Any], Any]) -> None:
    for name, one in {"GazePredictor": predictor, "GazeStream": predictor.start(draw_picture(1)[0], 1)}.items():
        with pytest.raises(TypeError, match=rf"^cannot copy or pickle a {name}; .*sa2va\.load_gaze\(") as caught:
            travel(one)
        assert "\n" not in str(caught.value)


def test_gaze_weights_know_the_model_they_were_trained_on(tmp_path: Path) -> None:
    """The states of another model mean other things: the fingerprint on the card is held against it on loading."""
    parts, others = build_model(), build_model(seed=5)
    model = build_gaze(parts=parts)
    ours, theirs = fingerprint(parts[0]), fingerprint(others[0])
    assert ours != theirs
    save_checkpoint(parts[0], parts[1].tokenizer, tmp_path / "own", torch.float32)
    save_checkpoint(others[0], others[1].tokenizer, tmp_path / "other", torch.float32)
    save_gaze(model.decoder, tmp_path / "gaze", {"model": ours})
    for dtype in ("float32", "bfloat16", "float16"):  # the same in every precision
        sa2va.load_gaze(tmp_path / "own", gaze=tmp_path / "gaze", device="cpu", dtype=dtype)
    with pytest.raises(ValueError, match=rf"trained on the model {ours}, this one is {theirs}") as caught:
        sa2va.load_gaze(tmp_path / "other", gaze=tmp_path / "gaze", device="cpu")
    assert "\n" not in str(caught.value)
    for card in ({}, {"model": "c652fc9c9a930745"}):  # which cannot be compared
        save_gaze(model.decoder, tmp_path / "gaze", card)
        sa2va.load_gaze(tmp_path / "other", gaze=tmp_path / "gaze", device="cpu")


def test_gaze_weights_are_those_of_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {}
    parts = build_model()
    for revision, seed in (("main", 1), ("v1", 2)):
        decoder = build_decoder(seed, state_width=parts[0].mllm.width, image_channels=parts[0].sam2.width)
        save_checkpoint(parts[0], parts[1].tokenizer, tmp_path / revision, torch.float32)
        save_gaze(decoder, tmp_path / revision)
        files[revision] = {path.name: path.read_bytes() for path in (tmp_path / revision).iterdir()}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with FakeHub({"lab/small": files}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        loaded = sa2va.load_gaze("lab/small", revision="v1", device="cpu").model.decoder
    expected = load_decoder(tmp_path / "v1").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
