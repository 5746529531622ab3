from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa2va.draw import text as lettering
from sa2va.draw.overlay import color_of
from sa2va.gaze.render import draw_scanpath, film_scanpath, fit_numbers, save_film
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.sheet import BAR, LEAST_SIZE, LONGER_SIDE, Sheet, lay_chips, radius_of
from sa2va.media.source import open_media

FRAME = np.full((60, 100, 3), 200, np.uint8)
WORDS = ("red", "cup")


def look(*places: tuple[float, float, float, int]) -> Scanpath:
    """Build a scanpath from (x, y, start, pack) of each fixation; 200 ms each."""
    fixations = [Fixation(x, y, start, 200.0) for x, y, start, _ in places]
    return Scanpath.from_packs(fixations, [place[3] for place in places], WORDS, width=100, height=60)


PATH = look((50, 30, -150, 0), (20, 15, 100, 1), (80, 45, 700, 3))


def near(picture: np.ndarray, x: float, y: float, color: np.ndarray, side: int = 14) -> int:
    """Count pixels near a place of the frame that are close to a color."""
    scale = LONGER_SIDE / 100
    row, column = int(y * scale), int(x * scale)
    patch = picture[max(row - side, 0) : row + side, max(column - side, 0) : column + side].astype(int)
    return int((np.abs(patch - color).max(-1) < 26).sum())


def test_fixations_have_the_color_of_their_word() -> None:
    picture = draw_scanpath(Sheet(frame=FRAME, scanpath=PATH, onsets=(50, 400)))
    assert picture.shape[1] == LONGER_SIDE and picture.shape[0] > 0.6 * LONGER_SIDE
    red, cup = np.array([color_of(0), color_of(1)])
    assert near(picture, 20, 15, red) > 100 and near(picture, 80, 45, red) == 0
    assert near(picture, 20, 15, cup) == 0
    footer = picture[int(0.6 * LONGER_SIDE) :].astype(int)
    for color in (red, cup):  # both words are named, the one without a fixation too
        assert (np.abs(footer - color).max(-1) < 8).sum() > 300


def test_time_goes_by() -> None:
    sheet = Sheet(frame=FRAME, scanpath=PATH, onsets=(50, 400))
    red, cup = np.array([color_of(0), color_of(1)])
    before, during = draw_scanpath(sheet, 0.0), draw_scanpath(sheet, 200.0)
    assert near(before, 20, 15, red) == 0 and near(during, 20, 15, red) > 50
    footer = [picture[int(0.6 * LONGER_SIDE) :].astype(int) for picture in (during, draw_scanpath(sheet, 500.0))]
    assert [(np.abs(part - cup).max(-1) < 8).sum() > 300 for part in footer] == [False, True]  # heard at 400 ms


def test_longer_looks_are_larger() -> None:
    """Area is proportional to duration."""
    assert radius_of(600) == pytest.approx(2 * radius_of(150))
    assert radius_of(0) > 5 and radius_of(1e6) == radius_of(2e6)


def test_numbers_stay_visible_where_all_look_at_one_place() -> None:
    crowd = look(*[(50 + k, 30, 100 * k, 1) for k in range(5)])
    picture = draw_scanpath(Sheet(frame=FRAME, scanpath=crowd))
    one = draw_scanpath(Sheet(frame=FRAME, scanpath=look((52, 30, 0, 1))))
    white = np.array([255, 255, 255])
    assert near(picture, 52, 30, white, 60) > 2 * near(one, 52, 30, white, 60)  # badges around the pile


@pytest.mark.parametrize("shape", [(60, 100), (300, 20), (20, 900), (1, 1)])
@pytest.mark.parametrize("words", [("a",), tuple("long words" + "x" * 40 for _ in range(30)), ("\U0001f600", "\u676f")])
@pytest.mark.filterwarnings("ignore:no installed font")
def test_any_shape_and_any_words(shape: tuple[int, int], words: tuple[str, ...]) -> None:
    height, width = shape
    path = Scanpath.from_packs([Fixation(-50, 9e3, 0, 0)], [1], words, width=width, height=height)
    picture = draw_scanpath(Sheet(frame=np.zeros((height, width, 3), np.uint8), scanpath=path))
    assert picture.dtype == np.uint8 and max(picture.shape) >= LONGER_SIDE
    assert picture.shape[1] >= LEAST_SIZE[0] and picture.shape[0] > LEAST_SIZE[1]


def test_a_flat_picture_lies_between_bars() -> None:
    path = Scanpath.from_packs([Fixation(500, 5, 0, 200)], [1], WORDS, width=1000, height=10)
    picture = draw_scanpath(Sheet(frame=np.zeros((10, 1000, 3), np.uint8), scanpath=path)).astype(int)
    middle = LEAST_SIZE[1] // 2
    assert picture[middle, 5].max() < 110 and (picture[[5, middle - 20, middle + 20], 5] == BAR).all()
    red = np.array(color_of(0))
    disc = picture[middle - 20 : middle + 20, LONGER_SIDE // 2 - 20 : LONGER_SIDE // 2 + 20]
    assert (np.abs(disc - red).max(-1) < 26).sum() > 100


def test_numbers_stay_below_their_word() -> None:
    few, letters = fit_numbers(["1", "2", "3"], 100, 30)
    assert few == "1 2 3" and letters.size == 30
    many, letters = fit_numbers([str(number) for number in range(7, 27)], 140, 30)
    assert many == "7 \u2026 26" and letters.getlength(many) <= 140
    assert fit_numbers([], 140, 30)[0] == ""


def test_words_go_from_line_to_line() -> None:
    chips = lay_chips(["word"] * 20, 300)
    assert all(chip.left + chip.width <= 300 for chip in chips)
    assert len({chip.top for chip in chips}) > 2
    assert lay_chips(["x" * 99], 300)[0].text.endswith("\u2026")


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_films(tmp_path: Path, name: str) -> None:
    sheet = Sheet(frame=FRAME[:30, :50], scanpath=PATH.with_points(PATH.points / 2, 50, 30), onsets=(50, 400))
    frames = list(film_scanpath(sheet, fps=5))
    assert len(frames) == 6 + 1 + 8  # 1050 ms, and the last one lingers
    save_film(tmp_path / name, frames, fps=5)
    media = open_media(str(tmp_path / name))
    assert not media.is_image
    if name.endswith("gif"):
        with Image.open(tmp_path / name) as gif:
            assert gif.info["duration"] == 200 and gif.info["loop"] == 0


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_a_film_keeps_its_time(tmp_path: Path, name: str) -> None:
    frames = [np.full((16, 16, 3), 4 * shade, np.uint8) for shade in range(46)]
    save_film(tmp_path / name, frames, fps=15)
    times = open_media(tmp_path / name).times
    assert times[[15, 30, 45]].tolist() == pytest.approx([1, 2, 3], abs=0.006)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the picture's 100 x 60"):
        Sheet(frame=FRAME, scanpath=PATH.with_points(PATH.points, 99, 60))
    with pytest.raises(ValueError, match="1 onsets for 2 words"):
        Sheet(frame=FRAME, scanpath=PATH, onsets=(1.0,))
    with pytest.raises(ValueError, match="film.avi: films are written as .mp4"):
        save_film(tmp_path / "film.avi", [FRAME])


def test_a_word_without_letters_is_shown_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "can_write", str.isascii)
    words = ("red", "\u676f")
    path = Scanpath.from_packs(PATH.fixations, [0, 1, 3], words, width=100, height=60)
    sheet = Sheet(frame=FRAME, scanpath=path, onsets=(50, 400))
    with pytest.warns(UserWarning, match="shows instead: word 2 = \u676f; install") as said:
        draw_scanpath(sheet)
        draw_scanpath(sheet, 500)
    assert len(said) == 1
    assert [chip.text for chip in sheet.chips] == ["start", "red", "word 2", "end"]
