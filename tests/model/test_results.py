"""What is saved of an answer: all frames in one pass over the source, and as much as a source allows."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa2va import masks
from sa2va.media import Media, open_media
from sa2va.model.predictor import Predictor
from sa2va.model.results import ObjectMasks, Options, Prediction

CLIP = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)


def answer(media: Media) -> Prediction:
    drawn = np.zeros(CLIP.shape[:3], bool)
    drawn[:, 4:20, 6:30] = True
    rles = tuple(masks.encode_rle(mask) for mask in drawn)
    thing = ObjectMasks(id=1, phrase="the car", presence=1.0, scores=np.ones(len(CLIP), np.float32), rles=rles)
    return Prediction(text="It is [SEG].", media=media, num_frames=len(CLIP), objects=(thing,))


def test_a_clip_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media, taken = open_media(CLIP), []
    read = media._reader.read
    monkeypatch.setattr(media._reader, "read", lambda indices: taken.append(list(indices)) or read(taken[-1]))
    paths = answer(media).save(tmp_path / "out")
    assert taken == [list(range(len(CLIP)))]
    assert all(path.stat().st_size for path in paths) and len(paths) == 1 + len(CLIP) + 1
    overlay = open_media(tmp_path / "out" / "overlay.mp4")
    assert overlay.num_frames == len(CLIP)


def test_what_cannot_be_read_again_has_masks_and_no_overlay(tmp_path: Path) -> None:
    media = open_media(iter(CLIP))
    assert sum(1 for _ in media) == len(CLIP)
    with pytest.warns(UserWarning, match="no overlay, its frames cannot be read a second time"):
        paths = answer(media).save(tmp_path)
    assert [path.name for path in paths] == [*(f"{frame:05d}.png" for frame in range(len(CLIP))), "annotations.json"]


NO_COUNTS = [0, -3, True, 2.0, "5", None, float("nan"), [4], np.bool_(True)]
NO_NUMBERS = ["1", None, True, float("nan"), float("inf"), 10**400, [0.5], np.float32("nan"), np.bool_(False)]
WRONG = {
    "max_new_tokens": NO_COUNTS,
    "max_objects": NO_COUNTS,
    "num_keyframes": [value for value in NO_COUNTS if value is not None],
    "seed": [-1, 2**64, True, 1.0, "0", None],
    "temperature": [*NO_NUMBERS, -0.1],
    "mask_threshold": NO_NUMBERS,
    "mode": ["fast", "", None, 1, ["auto"], np.array(["auto", "official"])],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_an_option_of_the_wrong_kind_is_one_line(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} .*(expected|use one of)") as caught:
        Options(**{name: value})
    assert "\n" not in str(caught.value)


def test_every_option_is_checked() -> None:
    assert set(WRONG) == {field.name for field in dataclasses.fields(Options)}


def test_numbers_of_numpy_are_taken() -> None:
    numbers = {"max_new_tokens": 7, "max_objects": 2, "num_keyframes": 3, "seed": 2**63}
    reals = {"temperature": 0.5, "mask_threshold": -1.5}
    taken = Options(
        **{name: np.uint64(value) for name, value in numbers.items()},
        **{name: np.float32(value) for name, value in reals.items()},
    )
    assert taken == Options(**numbers, **reals)
    assert [type(getattr(taken, name)) for name in (*numbers, *reals)] == [int] * 4 + [float] * 2


@pytest.mark.parametrize("options", [{"seed": 1}, 5, Options])
def test_options_are_options(options: Any) -> None:
    with pytest.raises(ValueError, match=r"^options .*expected Options\(\.\.\.\), got") as caught:
        Options.read(options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("travel", [pickle.dumps, copy.deepcopy, copy.copy])
def test_what_holds_weights_says_that_it_stays_in_its_process(
    predictor: Predictor, clip: np.ndarray, travel: Callable[[Any], Any]
) -> None:
    kinds = {"Predictor": predictor, "Conversation": predictor.open(clip[0]), "TrackSession": predictor.track(clip)}
    for name, one in kinds.items():
        with pytest.raises(TypeError, match=rf"^cannot copy or pickle a {name}; .*sa2va\.load\(") as caught:
            travel(one)
        assert "\n" not in str(caught.value)


def test_an_answer_travels(predictor: Predictor, clip: np.ndarray) -> None:
    answer = predictor.segment_regions(clip, [(10, 10, 40, 40)])
    other = pickle.loads(pickle.dumps(answer))
    assert np.array_equal(other.masks, answer.masks) and np.array_equal(other.plot(1), answer.plot(1))
