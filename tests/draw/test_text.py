"""Check which letters a machine has, that they are the ones that are drawn, and what is said where there are none."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from sa2va.draw import overlay
from sa2va.draw import text as lettering
from sa2va.draw.text import base_font, can_write, measure, replace_unwritable, write

ARABIC, HEBREW, HINDI, EMOJI, ACCENTS, HAN = "الدائرة", "דג", "हिन्दी", "😀", "café", "红色"
needs_raqm = pytest.mark.skipif(not features.check("raqm"), reason="this Pillow shapes no text")
NONCHARACTER = "\U0010fffd"  # for private use; no font has it


@pytest.fixture
def fontless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without fonts."""
    caches = (lettering._assign, lettering._find_font)
    monkeypatch.setattr(lettering, "_fonts", lambda: ())
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def picture(text: str, size: int = 24, anchor: str = "la") -> np.ndarray:
    image = Image.new("L", (300, 60))
    write(ImageDraw.Draw(image), (150 if anchor == "mm" else 10, 30 if anchor == "mm" else 10), text, 255, size, anchor)
    return np.array(image)


def boxes(text: str) -> np.ndarray:
    """What the base font draws, boxes included."""
    image = Image.new("L", (300, 60))
    ImageDraw.Draw(image).text((10, 10), text, 255, base_font(24))
    return np.array(image)


def test_plain_text_is_written_as_ever() -> None:
    assert np.array_equal(picture("2 red circle, 0.98"), boxes("2 red circle, 0.98"))
    assert measure("red circle", 20) == base_font(20).getlength("red circle")


@needs_raqm
@pytest.mark.parametrize(
    "text", [ARABIC, HEBREW, HINDI, EMOJI, ACCENTS, f"1 {ARABIC}", f"{EMOJI} face", f"{ARABIC} {EMOJI}"]
)
def test_letters_of_other_scripts_are_found(text: str) -> None:
    """The fonts of the extra "fonts" are there; each letter is drawn as itself, no two alike."""
    assert can_write(text) and not np.array_equal(picture(text), boxes(text))
    letters = {letter for letter in text if lettering._is_drawn(letter)}
    assert len({picture(letter).tobytes() for letter in letters}) == len(letters)
    assert not any(np.array_equal(picture(letter), picture(NONCHARACTER)) for letter in letters)


@needs_raqm
def test_arabic_letters_are_joined_and_run_from_right_to_left() -> None:
    ((_, path),) = lettering._assign(ARABIC) or ()
    assert path is not None
    alone = sum(measure(letter, 24) for letter in ARABIC)
    assert measure(ARABIC, 24) < 0.85 * alone  # joined forms are narrower
    font = ImageFont.truetype(path, 24, layout_engine=ImageFont.Layout.BASIC)
    image = Image.new("L", (300, 60))
    ImageDraw.Draw(image).text((10, 10), ARABIC, 255, font)
    assert not np.array_equal(picture(ARABIC), np.array(image))
    first, whole = measure("ا", 24), picture(ARABIC)  # alif, the first letter, is a stroke at the right end
    columns = np.flatnonzero(whole.any(0))
    assert (whole[:, columns[-1] - round(first) + 1 :] > 128).any(0).sum() <= 4


@needs_raqm
def test_a_text_of_two_fonts_is_as_wide_as_its_parts_and_stays_in_the_middle() -> None:
    text = f"{EMOJI} {ARABIC}"
    runs = lettering._runs(text, 24)
    assert len({id(font) for _, font in runs}) > 1
    assert measure(text, 24) == pytest.approx(sum(font.getlength(part) for part, font in runs))
    columns = np.flatnonzero(picture(text, anchor="mm").any(0))
    assert abs((columns[0] + columns[-1]) / 2 - 150) < 6
    assert columns[-1] - columns[0] == pytest.approx(measure(text, 24), abs=8)


def test_an_unknown_letter_has_no_font() -> None:
    assert not can_write(f"red {NONCHARACTER}") and can_write("") and can_write("red circle")


def test_scripts_that_need_shaping_are_unknown_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: False)
    lettering._assign.cache_clear()
    assert [can_write(text) for text in (ARABIC, HEBREW, HINDI, "red", EMOJI)] == [False, False, False, True, True]
    lettering._assign.cache_clear()


@pytest.mark.parametrize("name", ["broken.ttf", "LastResort.otf"])
def test_fonts_that_are_none_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).write_bytes(b"no font")
    monkeypatch.setattr(lettering, "_folders", lambda: iter([tmp_path, tmp_path / "missing"]))
    lettering._fonts.cache_clear()
    try:
        assert [path.name for path in lettering._fonts()] == (["broken.ttf"] if name == "broken.ttf" else [])
        assert not lettering._has(tmp_path / "sub" / name, "a")
    finally:
        lettering._fonts.cache_clear()


def test_a_label_without_letters_is_a_number_and_one_remark(fontless: None) -> None:
    frame = np.full((120, 160, 3), 128, np.uint8)
    masks = np.zeros((2, 120, 160), bool)
    masks[0, 30:60, 20:60] = masks[1, 70:100, 90:140] = True
    with pytest.warns(UserWarning, match=rf"shows instead: 1 = {HAN}, 3 = {HAN} 圆; .*sa2va\[fonts\]") as said:
        drawn = overlay.overlay(frame, masks, [HAN, f"{HAN}\n圆"], colors=[0, 2])
    assert len(said) == 1 and said[0].filename == __file__ and "\n" not in str(said[0].message)
    assert np.array_equal(drawn, overlay.overlay(frame, masks, ["1", "3"], colors=[0, 2]))
    with pytest.warns(UserWarning, match=f"2 = {HAN}"):
        sheet = overlay.contact_sheet([frame, frame], 1, ["red", HAN])
    assert np.array_equal(sheet, overlay.contact_sheet([frame, frame], 1, ["red", "2"]))


def test_nothing_is_said_of_plain_labels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replace_unwritable(["red circle"], ["1"], stacklevel=1) == ["red circle"]
        overlay.overlay(np.zeros((60, 80, 3), np.uint8), np.ones((1, 60, 80), bool), ["red circle"])
