"""Check that masks stored as RLE are decoded one by one."""

import numpy as np
import pytest

from sa2va.data.tracks import StoredTracks
from sa2va.masks import encode_rle


def test_chosen_masks_come_back_as_they_were() -> None:
    masks = np.random.default_rng(0).random((3, 4, 9, 7)) < 0.5
    rles = [[encode_rle(mask) for mask in track] for track in masks]
    tracks = StoredTracks([*rles, [None] * 4], height=9, width=7)
    assert len(tracks) == 4
    assert np.array_equal(tracks.masks([2, 0], [3, 1]), masks[[2, 0]][:, [3, 1]])
    assert not tracks.masks([3], [0, 2]).any()


def test_a_mask_of_another_size_is_refused() -> None:
    tracks = StoredTracks([[encode_rle(np.ones((4, 5)))]], height=5, width=4)
    with pytest.raises(
        ValueError, match=r"object 0 on frame 0: mask is \[4, 5\]; expected the picture's size \[5, 4\]"
    ):
        tracks.masks([0], [0])
