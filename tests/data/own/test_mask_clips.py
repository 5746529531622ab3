"""Check the reader of own data as clips with masks of objects, in the layouts of DAVIS and YouTube-VOS."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.own_formats import write_clips, write_index
from support.stored_layouts import rectangle_mask, write_json, write_picture

from sa2va.data.own.dataset import build
from sa2va.media.writer import VideoWriter


def write_youtube_vos(folder: Path, **changes: object) -> Path:
    write_clips(folder / "train/JPEGImages", folder / "train/Annotations")
    objects = {"1": {"category": "cat", "frames": ["00000"]}, "2": {"category": "dog"}} | changes
    write_json(folder / "train/meta.json", {"videos": {name: {"objects": objects} for name in ("walk", "run")}})
    return folder


def test_clips_of_youtube_vos_have_categories(tmp_path: Path) -> None:
    dataset = build(write_youtube_vos(tmp_path), split="all")
    assert [record.item.name for record in dataset.records] == ["run", "walk"]
    assert {one.text: one.objects for one in dataset.records[0].expressions} == {"the cat": (0,), "the dog": (1,)}
    sample = dataset[0]
    assert sample.num_frames == 3 and sample.frames.shape == (3, 24, 32, 3)
    cats, dogs = dataset.records[0].tracks.masks([0, 1], range(3))
    assert all(np.array_equal(cats[frame], rectangle_mask(frame, 2, 8 + frame, 20)) for frame in range(3))
    assert [bool(mask.any()) for mask in dogs] == [True, True, False]


def test_clips_of_davis_are_split_by_their_lists(tmp_path: Path) -> None:
    write_clips(tmp_path / "JPEGImages/480p", tmp_path / "Annotations/480p", ("a", "b", "c"))
    for part, names in (("train", "a\nb\n"), ("val", "c\n")):
        (tmp_path / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"ImageSets/2017/{part}.txt").write_text(names)
    write_json(tmp_path / "davis_semantics.json", {name: {"1": "cat", "2": "cat"} for name in "abc"})
    counts = [[record.item.name for record in build(tmp_path, split=part).records] for part in ("train", "val", "all")]
    assert counts == [["a", "b"], ["c"], ["a", "b", "c"]]
    texts = {one.text: one.objects for one in build(tmp_path, split="val").records[0].expressions}
    assert texts == {"the cats": (0, 1)}  # one leaves: no place holds on every frame


def test_expressions_may_be_given_by_clip(tmp_path: Path) -> None:
    write_clips(tmp_path / "frames", tmp_path / "masks", ("walk",))
    (tmp_path / "expressions.csv").write_text("file,object,expression\nwalk,2,the one that leaves\n")
    dataset = build(tmp_path, split="all")
    assert [one.text for one in dataset.records[0].expressions] == ["the one that leaves"]


def test_masks_of_a_video_are_named_by_its_frames(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "videos/walk.mp4", 5) as video:
        for level in range(40, 241, 40):
            video.write(np.full((24, 32, 3), level, np.uint8))
    for frame in (1, 4):
        write_index(tmp_path / f"masks/walk/{frame:05d}.png", (1, (2, 2, 9, 9)))
    write_json(tmp_path / "objects.json", {"walk": {"1": {"category": "cat", "expressions": ["the walker"]}}})
    dataset = build(tmp_path, split="all")
    sample = dataset[0]
    assert sample.num_frames == 2 and sample.masks[0].any((1, 2)).all()
    levels = sample.frames.mean((1, 2, 3))
    assert abs(levels[0] - 80) < 8 and abs(levels[1] - 200) < 8
    assert {one.text for one in dataset.records[0].expressions} == {"the walker", "the cat"}


def test_a_video_of_another_size_is_refused_before_training(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "videos/walk.mp4", 5) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
    write_index(tmp_path / "masks/walk/00000.png", (1, (2, 2, 9, 9)))
    with pytest.raises(ValueError, match=r"walk: masks: walk\.mp4 is 64x48, and it is annotated as 32x24; fetch the"):
        build(tmp_path, split="all")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: (d / "JPEGImages/walk/00001.jpg").unlink(), "Annotations/walk: masks: there is no frame 1 in"),
        (
            lambda d: write_picture(d / "JPEGImages/walk/00000.jpg", size=(24, 40)),
            r"walk: masks: 00000\.jpg is 40x24, and it is annotated as 32x24",
        ),
        (lambda d: (d / "JPEGImages/walk").rename(d / "gone"), "JPEGImages/walk: there are neither frames nor a video"),
        (lambda d: write_picture(d / "Annotations/walk/00000.png"), r"walk/00000\.png: it has \d+ values"),
        (lambda d: (d / "Annotations/walk/00000.png").write_bytes(b""), r"walk/00000\.png"),
        (
            lambda d: Image.new("L", (31, 24)).save(d / "Annotations/walk/00002.png"),
            "walk: masks: that of frame 2 is 31x24, and the first is 32x24",
        ),
        (lambda d: write_index(d / "Annotations/walk/0.png"), r"its name has the number of 0"),
        (lambda d: write_index(d / "Annotations/walk/x.png"), r"x\.png: its name has no number"),
        (
            lambda d: (d / "meta.json").write_text('{"videos": {"walk": {"objects": {"a": {}}}}}'),
            "object a: its name is",
        ),
        (
            lambda d: (d / "meta.json").write_text('{"videos": {"walk": {"objects": {"1": {"category": 3}}}}}'),
            "category",
        ),
    ],
)
def test_damage_is_refused(tmp_path: Path, damage, reason: str) -> None:
    write_youtube_vos(tmp_path)
    damage(tmp_path / "train")
    with pytest.raises(ValueError, match=reason) as caught:
        build(tmp_path, split="all")
    assert "\n" not in str(caught.value)


def test_a_folder_per_clip_may_hold_frames_and_masks(tmp_path: Path) -> None:
    for name in ("walk", "run"):
        write_clips(tmp_path / name / "frames", tmp_path / name / "masks", ("",))
    write_index(tmp_path / "run/masks/00000.png", (255, (2, 2, 9, 9)))
    for frame in (1, 2):
        write_index(tmp_path / f"run/masks/{frame:05d}.png", (255, (2, 2, 9, 9)))
    names = {"walk": {"1": "cat", "2": "dog"}, "run": {"255": "fox"}}
    write_json(tmp_path / "objects.json", names)
    dataset = build(tmp_path, split="all")
    texts = [{one.text for one in record.expressions} for record in dataset.records]
    assert texts == [{"the fox"}, {"the cat", "the dog"}]
    write_json(tmp_path / "walk/objects.json", names)
    assert len(build(tmp_path / "walk", split="all")) == 1
