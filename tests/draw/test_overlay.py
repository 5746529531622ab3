"""Check overlay.py: which pixels change, which do not, and that labels are readable."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2va.draw import overlay

GRAY = np.full((120, 160, 3), 128, np.uint8)


def disk(x: float, y: float, radius: float, height: int = 120, width: int = 160) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(columns - x, rows - y) < radius


def changed(picture: np.ndarray, frame: np.ndarray = GRAY) -> np.ndarray:
    return (picture != frame).any(-1)


def test_no_color_repeats() -> None:
    colors = [overlay.color_of(index) for index in range(200)]
    assert len(set(colors)) == 200 and all(0 <= level <= 255 for color in colors for level in color)


def test_first_colors_survive_color_blindness() -> None:
    colors = np.array([overlay.color_of(index) for index in range(len(overlay.COLORS))]) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    green_blind = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    red_blind = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    to_cone = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.63]]
    to_lab = [[0.2105, 0.7936, -0.0041], [1.978, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    for vision in (np.eye(3), green_blind, red_blind):
        seen = np.clip(linear @ np.transpose(vision), 0, 1)
        lab = np.cbrt(seen @ np.transpose(to_cone)) @ np.transpose(to_lab)  # OKLab
        distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 9 * np.eye(len(lab))
        assert distances.min() > 0.14  # Okabe and Ito, a palette much used, reach 0.076 with seven colors


@pytest.mark.parametrize("index", range(60))
def test_chip_text_has_contrast(index: int) -> None:
    background, ink = overlay._readable(overlay.color_of(index))
    dark, light = sorted((overlay._luminance(background), overlay._luminance(ink)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_tint_outline_and_the_rest() -> None:
    mask = disk(80, 60, 30)
    before = GRAY.copy()
    picture = overlay.overlay(GRAY, mask[None], alpha=0.5)
    assert np.array_equal(before, GRAY)
    assert picture.dtype == np.uint8 and picture.shape == GRAY.shape
    blend = (np.array(overlay.color_of(0), float) + 128) / 2
    assert np.abs(picture[60, 80] - blend).max() <= 1
    assert not changed(picture)[~disk(80, 60, 36)].any()
    edge = disk(80, 60, 30.5) & ~disk(80, 60, 29.5)
    contour = np.abs(picture[edge].astype(int) - overlay.color_of(0)).sum(-1)
    assert np.median(contour) < 100  # px on the edge have the full color, not the tint


def test_no_tint_leaves_the_inside_alone() -> None:
    picture = overlay.overlay(GRAY, disk(80, 60, 30)[None], alpha=0.0)
    assert not changed(picture)[disk(80, 60, 24)].any()
    assert changed(picture)[disk(80, 60, 30) & ~disk(80, 60, 28)].any()


def test_small_objects_lie_on_large_ones() -> None:
    small, large = disk(80, 60, 10), disk(80, 60, 40)
    for stack, index in (([small, large], 0), ([large, small], 1)):
        picture = overlay.overlay(GRAY, np.array(stack), alpha=1.0)
        assert np.array_equal(picture[60, 80], overlay.color_of(index))


def test_colors_follow_the_object() -> None:
    mask = disk(80, 60, 20)
    both = overlay.overlay(GRAY, np.array([np.zeros_like(mask), mask]), alpha=1.0)
    alone = overlay.overlay(GRAY, mask[None], alpha=1.0, colors=[1])
    assert np.array_equal(both, alone)


def test_nothing_to_draw() -> None:
    assert np.array_equal(overlay.overlay(GRAY, np.zeros((0, 120, 160), bool), []), GRAY)
    assert np.array_equal(overlay.overlay(GRAY, np.zeros((2, 120, 160), bool), ["a", "b"]), GRAY)
    mask = disk(80, 60, 20)[None]
    assert np.array_equal(overlay.overlay(GRAY, mask, [""]), overlay.overlay(GRAY, mask))


@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:no installed font")
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    label=st.text(max_size=30),
    seed=st.integers(0, 99),
    density=st.sampled_from([0.01, 0.5, 1.0]),
)
def test_any_size_and_label(height: int, width: int, label: str, seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = rng.random((3, height, width)) < density
    assert overlay.overlay(frame, masks, [label, "dog", label]).shape == frame.shape


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(5, 60), st.integers(5, 20)),
    corner=st.tuples(st.integers(0, 150), st.integers(0, 110)),
    extent=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_chips_stay_inside(size: tuple[int, int], corner: tuple[int, int], extent: tuple[int, int]) -> None:
    mask = np.zeros((120, 160), bool)
    mask[corner[1] : corner[1] + extent[1], corner[0] : corner[0] + extent[0]] = True
    box = overlay._pixel_box(mask)
    assert box is not None
    left, top, right, bottom = overlay._place(size, overlay._anchors(mask, box), (160, 120), [])
    assert 0 <= left < right <= 160 and 0 <= top < bottom <= 120
    assert (right - left, bottom - top) == size


def test_chips_keep_off_each_other() -> None:
    mask = disk(80, 60, 20)
    box = overlay._pixel_box(mask)
    assert box is not None
    taken: list[overlay.Box] = []
    for _ in range(4):
        chip = overlay._place((40, 12), overlay._anchors(mask, box), (160, 120), taken)
        assert all(overlay._overlap(chip, other) == 0 for other in taken)
        taken.append(chip)


def test_a_label_is_written_above_its_mask() -> None:
    mask = disk(80, 80, 15)[None]
    extra = changed(overlay.overlay(GRAY, mask, ["dog"]), overlay.overlay(GRAY, mask))
    rows, columns = np.nonzero(extra)
    assert 40 < rows.min() and rows.max() < 66 and abs(columns.mean() - 80) < 3


def test_long_labels_are_shortened() -> None:
    font = overlay.base_font(12)
    assert overlay._shorten("dog", font, 200) == "dog"
    short = overlay._shorten("a very long label indeed", font, 80)
    assert short.endswith("...") and font.getlength(short) <= 80
    assert overlay._shorten("dog", font, 3) == ""
    lines = overlay._wrap("several words that need more than one line", font, 90)
    assert " ".join(lines) == "several words that need more than one line"
    assert len(lines) > 2 and all(font.getlength(line) <= 90 for line in lines)


@pytest.mark.parametrize(
    ("masks", "arguments", "message"),
    [
        (np.zeros((120, 160), bool), {}, r"\(N, 120, 160\), got \(120, 160\)"),
        (np.zeros((1, 160, 120), bool), {}, r"\(1, 160, 120\)"),
        (np.zeros((2, 120, 160), bool), {"labels": ["a"]}, "1 labels for 2 masks"),
        (np.zeros((2, 120, 160), bool), {"colors": [1, 2, 3]}, "3 colors for 2 masks"),
    ],
)
def test_bad_overlays(masks: np.ndarray, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlay.overlay(GRAY, masks, **arguments)


def test_contact_sheet_shows_every_picture() -> None:
    frames = [np.full((60, 240, 3), (0, 40 * index, 200), np.uint8) for index in range(5)]
    sheet = overlay.contact_sheet(frames, 2, [""] * 5)
    assert sheet.shape[1] > 2 * 240 and sheet.shape[0] > 3 * 60
    counts = [(np.abs(sheet.astype(int) - frame[0, 0]).sum(-1) == 0).sum() for frame in frames]
    assert counts == [60 * 240] * 5
    captioned = overlay.contact_sheet(frames, 2, ["one", "", "three " * 20, "four", "five"])
    assert captioned.shape[0] > sheet.shape[0] and captioned.shape[1] == sheet.shape[1]
    assert (captioned.sum(-1) < 200).any()  # ink


def test_contact_sheet_fits_sizes() -> None:
    tiny = overlay.contact_sheet([GRAY[:8, :12]] * 3, 1, [""] * 3)
    assert tiny.shape[1] > 240
    huge = overlay.contact_sheet([np.zeros((1000, 2000, 3), np.uint8)] * 12, 12, [""] * 12)
    assert max(huge.shape) <= overlay.LARGEST_SHEET
    mixed = overlay.contact_sheet([np.zeros((100, 300, 3), np.uint8), np.zeros((300, 100, 3), np.uint8)], 2, ["", ""])
    assert mixed.shape[1] < 700
    assert overlay.contact_sheet([GRAY] * 2, 9, ["", ""]).shape[1] < 3 * 280


@pytest.mark.parametrize(
    ("frames", "captions", "message"), [([], [], "at least one"), ([GRAY], ["a", "b"], "2 captions for 1 frames")]
)
def test_bad_contact_sheets(frames: list[np.ndarray], captions: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlay.contact_sheet(frames, 2, captions)
