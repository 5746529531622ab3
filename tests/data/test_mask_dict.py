"""Check that mask dictionaries are packed without loss, and damaged entries are named."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stored_clips import rle_track, track
from support.stored_layouts import write_json, write_pickle

from sa2va.data.mask_dict import RunLengthTrack, read_mask_dict
from sa2va.data.records import Record
from sa2va.data.tracks import StoredTracks
from sa2va.masks import encode_rle

USER = Record({}, Path("meta_expressions.json"), "video ab, expression 0")


def test_packed_masks_are_those_of_the_file(tmp_path: Path) -> None:
    masks = read_mask_dict(write_json(tmp_path / "mask_dict.json", {"5": rle_track(0), "6": rle_track(1)}))
    tracks = StoredTracks([masks.track(5, 6, USER), masks.track("6", 6, USER)], 24, 32)
    assert np.array_equal(tracks.masks([1, 0], range(6)), [track(1), track(0)])
    assert masks.track(6, 6, USER)[0] is None and masks.track(6, 6, USER)[-1] == masks.track(6, 6, USER)[5]
    assert len(masks.track(6, 6, USER)[1:3]) == 2


def test_every_form_of_run_lengths_is_read(tmp_path: Path) -> None:
    rle = encode_rle(track(0)[2])
    runs = np.diff(np.flatnonzero(np.diff(track(0)[2].T.ravel(), prepend=0, append=2))).tolist()
    start = int(track(0)[2].T.ravel().argmax())
    plain = {"size": rle["size"], "counts": [start, *runs]}
    content = {0: [rle, rle | {"counts": rle["counts"].encode()}, plain, None]}
    masks = read_mask_dict(write_pickle(tmp_path / "mask_dict.pkl", content)).track(0, 4, USER)
    decoded = StoredTracks([masks], 24, 32).masks([0], range(4))[0]
    assert np.array_equal(decoded, [track(0)[2]] * 3 + [np.zeros((24, 32), bool)])


def test_a_track_is_pickled_as_two_buffers() -> None:
    rles = [encode_rle(np.random.default_rng(t).random((24, 32)) < 0.1) for t in range(100)]
    packed = RunLengthTrack(rles, USER)
    content = pickle.dumps(packed)
    assert len(content) < sum(len(rle["counts"]) for rle in rles) + 1000 < len(pickle.dumps(rles))
    assert pickle.loads(content) == packed
    assert packed != RunLengthTrack([*rles[:-1], None], USER)


@given(st.lists(st.none() | st.integers(0, 2**12 - 1), max_size=8))
def test_any_track_comes_back_frame_by_frame(pixels: list[int | None]) -> None:
    masks = [None if bits is None else np.array([bits >> i & 1 for i in range(12)], bool) for bits in pixels]
    rles = [None if mask is None else encode_rle(mask.reshape(3, 4)) for mask in masks]
    packed = RunLengthTrack(rles, USER)
    assert [one is None for one in packed] == [one is None for one in rles]
    decoded = StoredTracks([packed], 3, 4).masks([0], range(len(rles)))[0]
    assert [frame.ravel().tolist() for frame in decoded] == [[False] * 12 if m is None else m.tolist() for m in masks]


RLE = encode_rle(track(0)[0])


@pytest.mark.parametrize(
    "frames, reason",
    [
        ("no", r"mask_dict\.json: annotation 5: it is 'no'; expected a list"),
        ([RLE, None, 7], r"annotation 5: frame 2: mask is 7; expected run lengths or null"),
        ([RLE, None, {"size": [24, 32]}], r"annotation 5: segmentation has run lengths .*; expected size"),
        ([RLE, None, RLE | {"size": [32, 24]}], r"frame 2: mask is \[32, 24\], those before are \[24, 32\]"),
        ([RLE, None, RLE | {"counts": ""}], r"frame 2: mask has no run lengths; expected null"),
        ([RLE, None, RLE | {"counts": [5, 1]}], r"frame 2: RLE: the runs cover 6 pixels and the size 24x32 has 768"),
        ([RLE, None], r"meta_expressions\.json: video ab, expression 0: annotation 5 of mask_dict\.json has 2 masks "
                      r"for 3 frames; expected one per frame"),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_named(tmp_path: Path, frames: object, reason: str) -> None:
    masks = read_mask_dict(write_json(tmp_path / "mask_dict.json", {"5": frames}))
    with pytest.raises(ValueError, match=reason):
        masks.track(5, 3, USER)


def test_a_file_of_another_kind_and_a_missing_entry_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mask_dict\.json: it holds \[1\]; expected masks by annotation id"):
        read_mask_dict(write_json(tmp_path / "mask_dict.json", [1]))
    with pytest.raises(ValueError, match=r"expression 0: there is no annotation 5 in a\.json; the two do not"):
        read_mask_dict(write_json(tmp_path / "a.json", {"4": []})).track(5, 3, USER)
