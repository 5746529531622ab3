import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.gaze.scanpath import Fixation, Pack, Scanpath
from sa2va.gaze.timing import SpeechTiming

NUMBER = st.floats(-1e4, 1e4)
WORD = st.text(min_size=1, max_size=6)


@st.composite
def scanpaths(draw: st.DrawFn) -> Scanpath:
    words = draw(st.lists(WORD, max_size=5))
    sizes = draw(st.lists(st.integers(0, 3), min_size=len(words) + 2, max_size=len(words) + 2))
    starts = sorted(draw(st.lists(NUMBER, min_size=sum(sizes), max_size=sum(sizes))))
    fixations = [Fixation(draw(NUMBER), draw(NUMBER), start, draw(st.floats(0, 5000))) for start in starts]
    indices = [index for index, size in enumerate(sizes) for _ in range(size)]
    return Scanpath.from_packs(fixations, indices, words, width=640, height=480, image="dog.jpg")


def two_words() -> Scanpath:
    fixations = [Fixation(1, 2, -50, 200), Fixation(3, 4, 100, 0), Fixation(5, 6, 300, 250)]
    return Scanpath.from_packs(fixations, [0, 2, 2], ["red", "car"], width=10, height=8, image="car.jpg")


def test_packs_words_and_arrays() -> None:
    path = two_words()
    assert path.words == ("red", "car")
    assert path.sizes == [1, 0, 2, 0]
    assert [pack.word for pack in path.packs] == [None, "red", "car", None]
    assert path.points.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert [len(points) for points in path.pack_points] == [1, 0, 2, 0]
    assert path.starts.tolist() == [-50, 100, 300]
    assert path.durations.tolist() == [200, 0, 250]


def test_an_empty_scanpath_keeps_its_shapes() -> None:
    path = Scanpath.from_packs([], [], [], width=1, height=1)
    assert path.points.shape == (0, 2) and path.starts.shape == path.durations.shape == (0,)
    assert path.sizes == [0, 0] and path.words == ()


def test_the_logarithm_of_a_duration_has_a_floor() -> None:
    assert Fixation(0, 0, 0, 0).log_duration == 0.0
    assert Fixation(0, 0, 0, 200).log_duration == pytest.approx(math.log(200))


def test_cut_by_the_clock() -> None:
    timing = SpeechTiming(onsets=(100, 400), ends=(300, 700), duration=800)
    fixations = [Fixation(0, 0, start, 10) for start in (50, 100, 350, 400, 750, 800)]
    path = Scanpath.from_timing(fixations, ["red", "car"], timing, width=9, height=9)
    assert path.sizes == [1, 2, 2, 1]  # 350 and 750 fall into a pause and stay with the word before


def test_the_file_format() -> None:
    record = two_words().to_json()
    assert set(record) == {"image", "words", "packs"}
    assert record["words"] == ["red", "car"] and record["image"] == "car.jpg"
    assert record["packs"][0] == [{"x": 1, "y": 2, "start": -50, "duration": 200}]
    assert [len(pack) for pack in record["packs"]] == [1, 0, 2, 0]


@given(scanpaths())
def test_json_there_and_back(path: Scanpath) -> None:
    record = json.loads(json.dumps(path.to_json()))
    assert Scanpath.from_json(record, width=640, height=480) == path


@given(scanpaths())
def test_flat_and_packed_views_agree(path: Scanpath) -> None:
    assert len(path.fixations) == sum(path.sizes) == len(path.points)
    assert np.array_equal(np.concatenate(path.pack_points), path.points)
    moved = path.with_points(path.points + 1, 641, 481)
    assert moved.sizes == path.sizes and np.allclose(moved.points, path.points + 1)
    assert np.array_equal(moved.starts, path.starts)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((math.nan, 0, 0, 0), "x is nan"),
        ((0, math.inf, 0, 0), "y is inf"),
        ((0, 0, math.nan, 0), "start is nan"),
        ((0, 0, 0, -1), "duration is -1 ms"),
    ],
)
def test_bad_fixations(values: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fixation(*values)


@pytest.mark.parametrize(
    ("packs", "size", "message"),
    [
        ((), (4, 4), "expected None, one word each, None"),
        ((Pack(),), (4, 4), "expected None, one word each, None"),
        ((Pack(word="red"), Pack()), (4, 4), "expected None, one word each, None"),
        ((Pack(), Pack(), Pack()), (4, 4), "expected None, one word each, None"),
        ((Pack(), Pack(word=""), Pack()), (4, 4), "expected None, one word each, None"),
        ((Pack(), Pack()), (0, 4), "stimulus of 0 x 4 px"),
        ((Pack((Fixation(0, 0, 9, 1),)), Pack((Fixation(0, 0, 8, 1),))), (4, 4), "at 8 ms follows one at 9 ms"),
    ],
)
def test_bad_scanpaths(packs: tuple, size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scanpath(packs=packs, width=size[0], height=size[1])


@pytest.mark.parametrize(
    ("num_fixations", "indices", "message"),
    [
        (2, [0], "2 fixations and 1 pack indices"),
        (1, [3], r"pack indices \[3\], expected 0..2"),
        (1, [-1], "expected 0..2"),
        (2, [2, 1], "non-decreasing"),
    ],
)
def test_bad_pack_numbers(num_fixations: int, indices: list[int], message: str) -> None:
    fixations = [Fixation(0, 0, start, 1) for start in range(num_fixations)]
    with pytest.raises(ValueError, match=message):
        Scanpath.from_packs(fixations, indices, ["dog"], width=4, height=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "'image' is None, expected a str"),
        ({"words": "red car"}, "'words' is 'red car', expected a list"),
        ({"packs": {}}, "'packs' is {}, expected a list"),
        ({"packs": [[], [], []]}, "3 packs, expected 4"),
        ({"packs": [[], [], [], 5]}, "a pack is 5, expected a list"),
        ({"packs": [[], [], [], [1]]}, r"a pack is \[1\], expected a list"),
        ({"packs": [[], [], [], [{"x": 1, "y": 2, "start": 3}]]}, "duration None, expected a number"),
        ({"packs": [[], [], [], [{"x": "1", "y": 2, "start": 3, "duration": 4}]]}, "x '1', expected a number"),
        ({"packs": [[], [], [], [{"x": True, "y": 2, "start": 3, "duration": 4}]]}, "x True, expected a number"),
        ({"words": ["red", 7]}, "one word each"),
    ],
)
def test_bad_records(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Scanpath.from_json(two_words().to_json() | change, width=10, height=8)
    assert "\n" not in str(caught.value)


def test_a_clock_for_other_words() -> None:
    with pytest.raises(ValueError, match="1 words and 0 onsets"):
        Scanpath.from_timing([], ["dog"], SpeechTiming(onsets=(), ends=(), duration=1), width=4, height=4)
