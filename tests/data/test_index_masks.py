"""Check masks of index pictures against the arrays they were written from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa2va.data.index_masks import IndexTracks


@pytest.mark.parametrize("mode, high", [("P", 256), ("L", 256), ("I;16", 1000), ("1", 2)])
def test_each_object_is_its_value_in_any_mode(tmp_path: Path, mode: str, high: int) -> None:
    rng = np.random.default_rng(0)
    indices = rng.integers(0, high, (3, 9, 7)).astype(np.uint16)
    for t, picture in enumerate(indices):
        kind = np.uint16 if mode == "I;16" else np.uint8
        image = Image.fromarray((picture * (255 if mode == "1" else 1)).astype(kind))
        image = image.convert("1") if mode == "1" else image
        if mode == "P":
            image = Image.fromarray(picture.astype(np.uint8), "P")
            image.putpalette(rng.integers(0, 256, 768).astype(np.uint8).tobytes())
        image.save(tmp_path / f"{t}.png")
    values = [1, high - 1, 5 if high > 5 else 1]
    tracks = IndexTracks(tmp_path, ["0.png", "1.png", "2.png"], values)
    assert (len(tracks), tracks.height, tracks.width) == (3, 9, 7)
    expected = np.stack([indices == value for value in values])
    assert np.array_equal(tracks.masks([0, 1, 2], [0, 1, 2]), expected)
    assert np.array_equal(tracks.masks([2], [2, 0]), expected[[2]][:, [2, 0]])


def test_no_object_needs_no_picture(tmp_path: Path) -> None:
    Image.new("P", (7, 9)).save(tmp_path / "0.png")
    assert IndexTracks(tmp_path, ["0.png", "missing.png"], [1]).masks([], [0, 1]).shape == (0, 2, 9, 7)
