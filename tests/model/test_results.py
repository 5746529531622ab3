"""What is saved of an answer: all frames in one pass over the source, and as much as a source allows."""

from pathlib import Path

import numpy as np
import pytest

from sa2va import masks
from sa2va.media import Media, open_media
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


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_is_finite(threshold: float) -> None:
    with pytest.raises(ValueError, match="mask_threshold"):
        Options(mask_threshold=threshold)
