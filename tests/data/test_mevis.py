"""Check the reader of MeViS on a small dataset in its layout."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from support.stored_clips import CLIPS, frame_names, rle_track, track, write_mevis
from support.stored_layouts import write_json

from sa2va.data import media_files, tracks
from sa2va.data.base import Repeat
from sa2va.data.catalog import build_dataset
from sa2va.data.mevis import build
from sa2va.data.stored import DamagedRecords, DrawConfig


def test_every_clip_is_a_record_with_all_its_expressions(tmp_path: Path) -> None:
    dataset = build_dataset("mevis", write_mevis(tmp_path))
    assert len(dataset) == 3
    sample = dataset[0]
    assert sample.task == "mevis" and sample.num_frames == 6 and len(sample.turns) == 4
    assert np.array_equal(sample.masks, [track(0), track(1)])
    assert sample.meta["video"] == "ab" and sorted(sample.meta["expressions"]) == ["0", "1", "10", "2"]
    answers = dict(zip(sample.meta["expressions"], sample.turns, strict=True))
    assert "the one moving in ab" in answers["0"].question and answers["0"].spans[0].objects == (0,)
    assert answers["1"].spans[0].objects == (0, 1) and answers["1"].answer.startswith(("They", "Sure", "Here"))
    assert answers["2"].answer == "There is no elephant." and not answers["2"].spans
    assert answers["10"].question == "Which one comes later?" and answers["10"].spans[0].objects == (1,)


def test_groups_and_absent_objects_as_in_the_paper(tmp_path: Path) -> None:
    dataset = build(write_mevis(tmp_path), draw=DrawConfig(groups="union", absent="mask"))
    sample = dataset[1]
    masks = {
        one: sample.masks[turn.spans[0].objects[0]]
        for one, turn in zip(sample.meta["expressions"], sample.turns, strict=True)
    }
    assert all(len(turn.spans[0].objects) == 1 for turn in sample.turns)
    assert np.array_equal(masks["1"], track(0) | track(1))
    assert masks["2"].shape == (6, 24, 32) and not masks["2"].any()


def test_an_epoch_draws_every_clip_once_and_no_expression_twice_in_a_sample(tmp_path: Path) -> None:
    dataset = build(write_mevis(tmp_path), draw=DrawConfig(num_expressions=3))
    repeated = Repeat(dataset, seed=1)
    for epoch in range(4):
        drawn = [repeated[3 * epoch + place].meta for place in range(len(dataset))]
        assert sorted(one["video"] for one in drawn) == list(CLIPS)
        assert all(len(set(one["expressions"])) == 3 for one in drawn)
    two = [set(dataset.draw(0, epoch).meta["expressions"]) for epoch in range(2)]
    assert two[0] | two[1] == {"0", "1", "2", "10"}


def test_only_the_chosen_frames_and_masks_are_decoded(tmp_path: Path) -> None:
    sample = build(write_mevis(tmp_path))[0]
    with (
        mock.patch.object(media_files, "read_picture", wraps=media_files.read_picture) as pictures,
        mock.patch.object(tracks, "decode_rle", wraps=tracks.decode_rle) as masks,
    ):
        frames = sample.media[0].frames([1, 4])
        assert np.array_equal(sample.tracks.masks([1], [1, 4])[0], track(1)[[1, 4]])
    assert frames.shape == (2, 24, 32, 3)
    assert [call.args[0].stem for call in pictures.call_args_list] == [frame_names()[1], frame_names()[4]]
    assert masks.call_count == 2


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_split_of_the_server_has_expressions_but_no_samples(tmp_path: Path, split: str) -> None:
    dataset = build(write_mevis(tmp_path, split), split=split)
    record = dataset.records[2]
    assert record.video == "ef" and record.frames == tuple(frame_names())
    assert [one.id for one in record.expressions] == ["0", "1", "2", "10"]
    assert record.media().frames([0]).shape == (1, 24, 32, 3)
    with pytest.raises(ValueError, match=r"dataset mevis, .*: video ab: the masks of this split are not published"):
        dataset[0]


def test_a_public_validation_split_has_masks(tmp_path: Path) -> None:
    dataset = build(write_mevis(tmp_path, "valid_u"), split="valid_u")
    assert np.array_equal(dataset.records[0].tracks.masks([0], range(6))[0], track(0))
    with pytest.raises(ValueError, match=r"dataset mevis: there is no split 'val'; it has train, valid_u, valid, test"):
        build(tmp_path, split="val")


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"frames": []}, r"meta_expressions\.json: video cd: frames is \[\]; expected different names"),
        ({"frames": ["00000", "00000"]}, r"video cd: frames is .*; expected different names"),
        ({"frames": [*frame_names()[1:], "7"]}, r"video cd: there is no frame 7\.jpg in .*JPEGImages/cd"),
        ({"frames": frame_names()[1:]}, r"video cd, expression 0: annotation 0 of mask_dict\.json has 6 masks for 5"),
        ({"expressions": {}}, r"video cd: it has no expressions"),
        ({"expressions": {"0": 1}}, r"video cd, expression 0: it is 1; expected an object"),
        ({"expressions": {"0": {"exp": "it"}}}, r"video cd, expression 0: it has no field 'anno_id'; expected a list"),
        ({"expressions": {"0": {"exp": "it", "anno_id": [None]}}}, r"expression 0: anno_id is \[None\]"),
        ({"expressions": {"0": {"exp": "it", "anno_id": [9]}}}, r"expression 0: there is no annotation 9 in mask_d"),
        ({"expressions": {"0": {"exp": " ", "anno_id": []}}}, r"expression 0: exp is empty"),
        ({"expressions": {"0": {"exp": ".", "anno_id": []}}}, r"expression 0: exp is '\.'; expected words"),
        ({"height": 7, "width": 9}, r"video cd: its masks and its own fields give the sizes \[\(7, 9\), \(24, 32\)\]"),
    ],
)
def test_a_damaged_clip_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    file = write_mevis(tmp_path) / "train/meta_expressions.json"
    content = json.loads(file.read_text())
    content["videos"]["cd"] |= change
    write_json(file, content)
    with pytest.raises(DamagedRecords, match=reason):
        build(tmp_path)


def test_a_missing_clip_and_a_frame_of_another_size_are_named(tmp_path: Path) -> None:
    write_mevis(tmp_path)
    rles = [one and one | {"size": [32, 24]} for one in rle_track(0)]
    write_json(tmp_path / "train/mask_dict.json", {"0": rles, "1": [None] * 6})
    with pytest.raises(ValueError, match=r"ab/00000\.jpg: the picture is 32x24, its annotation says 24x32"):
        build(tmp_path)[0].media[0].frames([0])
    (tmp_path / "train/JPEGImages/ab").rename(tmp_path / "ab")
    with pytest.raises(DamagedRecords, match=r"video ab: there is no ab in .*JPEGImages; fetch the missing file"):
        build(tmp_path)


def test_a_clip_without_any_mask_has_the_size_of_its_frames(tmp_path: Path) -> None:
    write_mevis(tmp_path)
    write_json(tmp_path / "train/mask_dict.json", {"0": [None] * 6, "1": [None] * 6})
    assert build(tmp_path)[0].masks.shape == (2, 6, 24, 32)
