"""Check that the demo runs every task on a user's own media."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa2va.apps.demo.exhibits import SCALE, enlarge, paint, show_own
from sa2va.media.source import open_media


def test_small_drawings_are_enlarged_and_photos_are_not() -> None:
    drawing, photo = np.zeros((100, 80, 3), np.uint8), np.zeros((600, 500, 3), np.uint8)
    assert enlarge(drawing).shape == (SCALE * 100, SCALE * 80, 3)
    assert enlarge(photo).shape == photo.shape
    assert paint(drawing, np.zeros((0, 100, 80), bool), []).max() == 0


@pytest.mark.parametrize("num_frames", [1, 4])
def test_own_media_run_every_task_without_a_verdict(toy: Any, tmp_path: Path, num_frames: int) -> None:
    media = open_media(np.full((num_frames, 48, 64, 3), 100, np.uint8))
    exhibits = list(show_own(toy, media, tmp_path))
    exchanges = [exchange for exhibit in exhibits for exchange in exhibit.exchanges]
    assert len(exchanges) >= 3 and all(e.right is None and e.expected is None for e in exchanges)
    assert [exhibit.clip is not None for exhibit in exhibits] == ([False, False] if num_frames == 1 else [True])
