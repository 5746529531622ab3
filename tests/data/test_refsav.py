"""Check the reader of Ref-SAV on small videos in its layout: captions, counts, and what is decoded."""

import json
import pickle
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from support.stored_clips import rle_track, track, write_mp4, write_refsav, write_refsav_valid
from support.stored_layouts import write_json

from sa2va.data.catalog import build_dataset
from sa2va.data.refsav import SavClip, build
from sa2va.data.stored import DamagedRecords, DrawConfig
from sa2va.media import video as decoder


def test_every_fourth_frame_has_the_masks_of_the_file(tmp_path: Path) -> None:
    dataset = build_dataset("refsav", write_refsav(tmp_path))
    assert len(dataset) == 3
    sample = dataset[0]
    assert sample.num_frames == 6 and np.array_equal(sample.masks, [track(0), track(1)])
    frames = sample.media[0].frames([0, 3, 5])
    assert np.allclose(frames.mean((1, 2, 3)), [0, 24, 40], atol=2)  # frame t of the file is a gray of 2 t
    questions = " ".join(turn.question for turn in sample.turns)
    assert "A box in sav_000000. It moves to the right." in questions and "Does it come later? It does." in questions
    assert all(turn.question != "A tile. Does it come later? It does." for turn in sample.turns)  # a template asks
    assert sorted(sample.meta["expressions"]) == ["0 long", "1 long"] and sample.meta["type_ids"] == [0, 0]


@pytest.mark.parametrize(
    "captions, wanted",
    [
        ("long", {"0 long", "1 long"}),
        ("short", {"0 short 0", "0 short 1", "1 short 0"}),
        ("both", {"0 long", "1 long", "0 short 0", "0 short 1", "1 short 0"}),
    ],
)
def test_long_and_short_captions_are_a_choice(tmp_path: Path, captions: str, wanted: set[str]) -> None:
    sample = build(write_refsav(tmp_path), draw=DrawConfig(captions=captions))[0]
    assert set(sample.meta["expressions"]) == wanted
    for name, turn in zip(sample.meta["expressions"], sample.turns, strict=True):
        assert turn.spans[0].objects == (int(name[0]),)


def test_a_video_without_short_captions_is_left_out_of_them(tmp_path: Path) -> None:
    file = write_refsav(tmp_path) / "Ref-SAV.json"
    content = json.loads(file.read_text())
    for captions in content["sav_000001"]["objects"].values():
        captions["short_caps"] = []
    write_json(file, content)
    assert len(build(tmp_path, draw=DrawConfig(captions="short"))) == 2 and len(build(tmp_path)) == 3


def test_chosen_frames_are_sought_instead_of_decoding_the_video(tmp_path: Path) -> None:
    num_frames = 161
    folder = write_refsav(tmp_path)
    write_mp4(folder / "sam_v_full/sav_000/sav_000000.mp4", num_frames)
    masklet = [[one, None] for one in [*rle_track(0), *[None] * 35]]
    write_json(folder / "sam_v_full/sav_000/sav_000000_manual.json", {"masklet": masklet})
    sample = build(folder)[0]
    decoded = 0

    def count(*args):
        nonlocal decoded
        for picture in original(*args):
            decoded += 1
            yield picture

    original = decoder.decode_frames
    with mock.patch.object(decoder, "decode_frames", count):
        frames = sample.media[0].frames([10, 25, 38])
    assert np.allclose(frames.mean((1, 2, 3)), [80, 200, 64], atol=2)
    assert decoded <= 3 * (8 + 6) < num_frames // 3  # a key frame every 8, and the delay of the decoder


def test_a_dataset_is_small_enough_for_workers(tmp_path: Path) -> None:
    dataset = build(write_refsav(tmp_path))
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset.records[0])) < 2000  # masks stay in their files
    assert np.array_equal(copy[2].masks, dataset[2].masks) and copy[2].turns == dataset[2].turns


@pytest.mark.parametrize(
    "written", ["sav_000/sav_train/sav_000/{}", "sav_train/sav_000/{}", "sav_000/sav_000/{}", "{}"]
)
def test_archives_may_have_been_unpacked_in_several_ways(tmp_path: Path, written: str) -> None:
    file = write_refsav(tmp_path) / "Ref-SAV.json"
    content = json.loads(file.read_text())
    content["sav_000000"] |= {
        "video_path": written.format("sav_000000.mp4"), "anno_path": written.format("sav_000000_manual.json")
    }  # fmt: skip
    write_json(file, content)
    if written == "{}":
        with pytest.raises(DamagedRecords, match=r"video sav_000000: there is no sav_000000\.mp4 in .*sam_v_full"):
            build(tmp_path)
    else:
        record = build(tmp_path).records[0]
        assert isinstance(record, SavClip) and record.path.exists() and record.masklets.exists()


def test_counts_and_sizes_must_agree(tmp_path: Path) -> None:
    folder = write_refsav(tmp_path)
    dataset, place = build(folder), folder / "sam_v_full/sav_000"
    write_mp4(place / "sav_000000.mp4", 20)
    with pytest.raises(
        ValueError, match=r"dataset refsav, .*video sav_000000: .*manual\.json: .*masks for 6 frames, and .*mp4 has 5 "
    ):
        dataset[0]
    write_mp4(place / "sav_000001.mp4", 21, (32, 24))
    with pytest.raises(ValueError, match=r"masks of object 0 are \[24, 32\], frames of sav_000001\.mp4 are \[32, 24\]"):
        dataset[1]
    write_json(place / "sav_000002_manual.json", {"masklet": [[None]] * 6})
    with pytest.raises(ValueError, match=r"_manual\.json: frame 0 has masks of 1 objects; there is none of obje"):
        dataset[2]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"objects": {}}, r"Ref-SAV\.json: video sav_000001: it has no objects"),
        ({"objects": {"a": {}}}, r"video sav_000001, object a: its key is 'a'; expected the place of the object"),
        ({"objects": {"0": {}}}, r"video sav_000001, object 0: it has no field 'formated'; expected a text"),
        ({"objects": {"0": {"formated": "x", "short_caps": [""]}}}, r"object 0: short_caps is \[''\]"),
        ({"video_path": "../x.mp4"}, r"video sav_000001: file name '\.\./x\.mp4' is not a path below"),
        ({"anno_path": None}, r"video sav_000001: anno_path is None; expected a text"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    file = write_refsav(tmp_path) / "Ref-SAV.json"
    content = json.loads(file.read_text())
    content["sav_000001"] |= change
    write_json(file, content)
    with pytest.raises(DamagedRecords, match=reason):
        build(tmp_path)


@pytest.mark.parametrize("place", ["data/ref_sav_eval", "data/video_datas/ref_sav_eval"])
def test_the_evaluation_set_has_frames_and_both_kinds_of_captions(tmp_path: Path, place: str) -> None:
    write_refsav_valid(tmp_path / place)
    dataset = build(tmp_path / "data/video_datas", split="valid")
    long, short = dataset.records[0].expressions
    assert (long.text, long.is_description, long.type_id) == ("A box in ab. It moves.", True, 0)
    assert (short.text, short.is_description, short.type_id) == ("the box", False, 1)
    assert np.array_equal(dataset[0].masks[0], track(0))
