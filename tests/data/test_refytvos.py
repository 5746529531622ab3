"""Check the reader of Refer-YouTube-VOS on a small dataset in its layout, with both kinds of mask files."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from support.stored_clips import CLIPS, frame_names, rle_track, track, write_refytvos, write_videos
from support.stored_layouts import write_json, write_pickle, write_picture

from sa2va.data import index_masks
from sa2va.data.catalog import build_dataset
from sa2va.data.refytvos import number_expressions, read_videos
from sa2va.data.stored import DamagedRecords, DrawConfig


@pytest.mark.parametrize("masks", ["png", "pkl"])
def test_every_expression_has_the_masks_of_its_object(tmp_path: Path, masks: str) -> None:
    dataset = build_dataset("refytvos", write_refytvos(tmp_path, masks), draw=DrawConfig(num_expressions=11))
    assert len(dataset) == 3
    for index, clip in enumerate(CLIPS):
        sample = dataset[index]
        assert len(sample.turns) == 11 and len(sample.tracks) == 2
        for name, turn in zip(sample.meta["expressions"], sample.turns, strict=True):
            assert f"thing {name} of {clip}" in turn.question
            assert np.array_equal(sample.masks[turn.spans[0].objects[0]], track(int(name) % 2))


def test_keys_count_the_expressions_of_all_clips(tmp_path: Path) -> None:
    folder = write_refytvos(tmp_path)
    keys = number_expressions(read_videos(folder / "meta_expressions/train/meta_expressions.json"))
    assert [keys["ab", name] for name in ("0", "1", "10", "2", "9")] == [0, 1, 2, 3, 10]
    assert keys["cd", "0"] == 11 and len(keys) == 33


def test_an_index_picture_is_decoded_once_for_all_objects(tmp_path: Path) -> None:
    sample = build_dataset("refytvos", write_refytvos(tmp_path))[0]
    with mock.patch.object(index_masks, "read_indices", wraps=index_masks.read_indices) as read:
        masks = sample.tracks.masks([1, 0], [2, 5])
    assert np.array_equal(masks, np.stack([track(1), track(0)])[:, [2, 5]])
    assert [call.args[0].stem for call in read.call_args_list] == [frame_names()[2], frame_names()[5]]


def test_the_split_of_the_server_leaves_out_the_clips_of_test(tmp_path: Path) -> None:
    folder = write_refytvos(tmp_path, "none", "valid")
    videos = json.loads(write_videos(folder / "unused.json", {"0": {"exp": "it"}}).read_text())["videos"]
    write_json(folder / "meta_expressions/test/meta_expressions.json", {"videos": {"cd": videos["cd"]}})
    dataset = build_dataset("refytvos", folder, split="valid")
    assert [record.video for record in dataset.records] == ["ab", "ef"]
    with pytest.raises(ValueError, match="the masks of this split are not published"):
        dataset[0]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"obj_id": "3"}, r"video cd, expression 4: there is no object 3 in meta\.json; the two do not belong"),
        ({"obj_id": "0"}, r"video cd, expression 4: obj_id is '0'; expected the number of an object, 1 or more"),
        ({"obj_id": [1]}, r"video cd, expression 4: obj_id is \[1\]"),
        ({"exp": None}, r"video cd, expression 4: exp is None; expected a text"),
    ],
)
def test_a_damaged_expression_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    file = write_refytvos(tmp_path) / "meta_expressions/train/meta_expressions.json"
    content = json.loads(file.read_text())
    content["videos"]["cd"]["expressions"]["4"] |= change
    write_json(file, content)
    with pytest.raises(DamagedRecords, match=reason):
        build_dataset("refytvos", tmp_path)


def test_a_missing_or_damaged_index_picture_is_named(tmp_path: Path) -> None:
    annotations = write_refytvos(tmp_path) / "train/Annotations"
    dataset = build_dataset("refytvos", tmp_path)
    write_picture(annotations / "ab/00005.png")
    with pytest.raises(ValueError, match=r"ab/00005\.png: its pixels are colors \(RGB\); expected the number of an"):
        dataset[0].tracks.masks([0], [1])
    Image.new("P", (9, 7)).save(annotations / "ab/00005.png")
    with pytest.raises(ValueError, match=r"ab/00005\.png: it is 9x7, not 32x24"):
        dataset[0].tracks.masks([0], [1])
    (annotations / "ab/00005.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"ab/00005\.png: the picture cannot be decoded"):
        dataset[0].tracks.masks([0], [1])
    (annotations / "ef/00010.png").unlink()
    with pytest.raises(DamagedRecords, match=r"video ef: there is no 00010\.png in .*; expected an index picture per"):
        build_dataset("refytvos", tmp_path)


def test_a_mask_file_that_counts_differently_is_refused(tmp_path: Path) -> None:
    folder = write_refytvos(tmp_path, "pkl")
    file = folder / "mask_dict.pkl"
    write_pickle(file, {str(key): rle_track(0) for key in range(32)})
    with pytest.raises(ValueError, match=r"mask_dict\.pkl: it has 32 entries for 33 expressions; fetch both again"):
        build_dataset("refytvos", folder)
    write_pickle(file, {str(key): rle_track(key > 20) for key in range(33)})
    with pytest.raises(DamagedRecords, match=r"video cd, expression 9: entry 21 of mask_dict\.pkl differs"):
        build_dataset("refytvos", folder)
    file.unlink()
    with pytest.raises(ValueError, match=r"mask_dict\.pkl: there is no such file, and no folder Annotations; fetch"):
        build_dataset("refytvos", folder)
