"""Check the saved files of an answer: frames, times, names, and which earlier files are replaced."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sa2va
from sa2va import masks
from sa2va.files.manifest import MANIFEST
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options, Request
from sa2va.inference.results import ObjectMasks, Prediction
from sa2va.media.pictures import save_image
from sa2va.media.source import Media, open_media
from sa2va.media.writer import VideoWriter

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
    "max_objects": [value for value in NO_COUNTS if value != 0 or value is None],
    "num_keyframes": [value for value in NO_COUNTS if value is not None],
    "keyframes": ["middle", "", 1, ["first"], np.array(["first", "uniform"])],
    "seed": [-1, 2**64, True, 1.0, "0", None],
    "temperature": [*NO_NUMBERS, -0.1],
    "top_p": [*NO_NUMBERS, 0, -0.1, 1.1],
    "stop": ["", ("a", ""), ("a", 1), 5, None, {"a"}],
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


TIMES = [0.0, 1 / 12, 2 / 12, 0.5, 5 / 6]  # s; the second half is slower


@pytest.fixture
def slowing(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "clip.mp4", 12) as video:
        for frame, time in zip(CLIP, TIMES, strict=True):
            video.write(frame, time)
    return tmp_path / "clip.mp4"


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)


def test_the_overlay_keeps_the_times_of_the_clip(slowing: Path) -> None:
    answer(open_media(slowing)).save(slowing.parent / "out")
    assert open_media(slowing.parent / "out" / "overlay.mp4").times.tolist() == pytest.approx(TIMES, abs=1e-4)


def test_json_of_a_clip_names_every_frame(slowing: Path) -> None:
    names = ["frame2.png", "frame10.png", "frame11.png", "frame12.png", "frame13.png"]
    for name, frame in zip(names, CLIP, strict=True):
        save_image(slowing.parent / "frames" / name, frame)
    for source, expected in ((slowing, [f"{index:05d}.png" for index in range(5)]), (slowing.parent / "frames", names)):
        (video,) = answer(open_media(source)).to_coco()["videos"]
        assert video["file_names"] == expected and video["length"] == len(expected) == 5
        assert (video["width"], video["height"], video["file_name"]) == (48, 32, source.name)


def test_fewer_objects_leave_no_mask_of_the_answer_before(tmp_path: Path) -> None:
    photo = open_media(CLIP[0])
    one = answer(open_media(CLIP)).objects[0]
    one = replace(one, scores=one.scores[:1], rles=one.rles[:1])
    for ids in ((1, 2, 3), (1,)):
        objects = tuple(replace(one, id=number) for number in ids)
        paths = Prediction(text="It is [SEG].", media=photo, objects=objects).save(tmp_path / "out")
    assert [path.name for path in paths] == ["overlay.png", "mask_1.png", "annotations.json"]
    assert visible(tmp_path / "out") == ["annotations.json", "mask_1.png", "overlay.png"]
    assert all(path.is_file() for path in paths)


@pytest.mark.parametrize("kind", ["path", "image"])
def test_the_input_and_files_of_a_user_are_never_replaced(tmp_path: Path, kind: str) -> None:
    found = Prediction(text="", media=open_media(CLIP[0]))
    found.save(tmp_path)
    before = (tmp_path / "overlay.png").read_bytes()
    source = tmp_path / "overlay.png"
    media = open_media(source if kind == "path" else Image.open(source))
    with pytest.raises(ValueError, match="overlay.png is the input itself"):
        Prediction(text="", media=media).save(tmp_path)
    assert source.read_bytes() == before
    source.write_bytes(b"painted over")
    with pytest.raises(ValueError, match="overlay.png was not written by sa2va, or has changed since"):
        found.save(str(tmp_path))
    assert source.read_bytes() == b"painted over"


def test_a_clip_that_is_gone_leaves_no_folder(slowing: Path) -> None:
    found = answer(open_media(slowing))
    slowing.unlink()
    with pytest.raises(ValueError, match="clip.mp4") as caught:
        found.save(slowing.parent / "a" / "b")
    assert "\n" not in str(caught.value) and list(slowing.parent.iterdir()) == []


def test_an_empty_name_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the name of the output folder is empty"):
        answer(open_media(CLIP)).save("")
    assert list(tmp_path.iterdir()) == []


def test_further_pictures_of_a_question_are_input_too(tmp_path: Path) -> None:
    Prediction(text="", media=open_media(CLIP[0])).save(tmp_path / "out")
    images = [CLIP[0], tmp_path / "out" / "overlay.png"]
    (found,) = sa2va.load("tiny", device="cpu").predict_batch([Request(images=images, prompt="What is this?")])
    with pytest.raises(ValueError, match="overlay.png is the input itself"):
        found.save(tmp_path / "out")


def test_results_beside_the_frames_of_a_folder_are_no_frames(tmp_path: Path) -> None:
    for index in range(3):
        Image.new("RGB", (16, 12)).save(tmp_path / f"{index}.png")
    Prediction(text="", media=open_media(tmp_path / "0.png")).save(tmp_path)
    assert (tmp_path / "overlay.png").is_file()
    assert open_media(tmp_path).num_frames == 3


@pytest.mark.parametrize("folder", [None, 3, b"out"])
def test_what_is_no_path_is_no_folder(folder: object) -> None:
    with pytest.raises(ValueError, match="folder .*: expected a path"):
        answer(open_media(CLIP)).save(folder)
