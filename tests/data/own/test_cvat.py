"""Check the reader of own data of CVAT, for images and for video."""

from pathlib import Path

import numpy as np
import pytest
from support.own_formats import BOXES_OF, cvat_images, cvat_shape, write_cvat, write_pictures
from support.stored_layouts import rectangle_mask, write_picture

from sa2va.data.own.dataset import build
from sa2va.data.own.objects import OwnConfig
from sa2va.data.own.xml_tree import read_xml

LEFT, RIGHT, OTHER = (2, 3, 10, 12), (20, 2, 30, 12), (12, 14, 28, 22)


def write_images(folder: Path, old: str = "", new: str = "") -> Path:
    write_pictures(folder / "images")
    text = cvat_images()
    assert old in text
    return write_cvat(folder, text.replace(old, new, 1) if old else text)


def write_tracks(folder: Path, *tracks: str, num_frames: int = 6) -> Path:
    for number in range(num_frames):
        write_picture(folder / "images" / f"frame_{number:06d}.png", number)
    head = ('<track id="0" label="cat" source="manual">', '<track id="1" label="dog" source="manual">')
    return write_cvat(folder, "\n".join(f"{head[i]}\n{text}\n</track>" for i, text in enumerate(tracks)))


def at(frame: int, box: tuple[int, int, int, int] = LEFT, outside: int = 0, *, as_mask: bool = False) -> str:
    return cvat_shape(box, f'frame="{frame}" outside="{outside}" keyframe="1"', as_mask=as_mask)


def test_polygons_and_masks_of_images(tmp_path: Path) -> None:
    dataset = build(write_images(tmp_path), split="all")
    assert len(dataset) == 3 and len(dataset.records[2].absent) == 3
    wanted = [rectangle_mask(*box) for box in BOXES_OF[0]]
    assert np.array_equal(dataset.records[0].tracks.masks([0, 1, 2], [0])[:, 0], wanted)


def test_an_attribute_is_an_expression(tmp_path: Path) -> None:
    write_images(tmp_path, "</polygon>", '<attribute name="Expression">the &lt;striped&gt; cat</attribute></polygon>')
    texts = {one.text: one.objects for one in build(tmp_path, split="all").records[0].expressions}
    assert texts["the <striped> cat"] == (0,)


def test_shapes_of_a_group_are_one_object(tmp_path: Path) -> None:
    write_images(tmp_path)
    text = (tmp_path / "annotations.xml").read_text().replace('label="cat"', 'label="cat" group_id="3"')
    (tmp_path / "annotations.xml").write_text(text)
    record = build(tmp_path, split="all").records[0]
    assert {one.text: one.objects for one in record.expressions} == {"the cat": (0,), "the dog": (1,)}
    mask = record.tracks.masks([0], [0])[0, 0]
    assert np.array_equal(mask, rectangle_mask(*BOXES_OF[0][0]) | rectangle_mask(*BOXES_OF[0][1]))


def test_subsets_of_images_are_the_split(tmp_path: Path) -> None:
    write_images(tmp_path)
    text = (tmp_path / "annotations.xml").read_text()
    for number, subset in enumerate(("Train", "Validation", "Train")):
        text = text.replace(f'<image id="{number}"', f'<image subset="{subset}" id="{number}"')
    (tmp_path / "annotations.xml").write_text(text)
    assert [len(build(tmp_path, split=part)) for part in ("train", "val", "all")] == [2, 1, 3]


def test_a_clip_has_the_frames_on_which_every_track_is_known(tmp_path: Path) -> None:
    cat = at(0) + at(1) + at(2) + at(3, outside=1)
    dog = at(1, OTHER, as_mask=True) + at(2, OTHER) + at(4, OTHER)  # frame 3 is not known, nor what follows 4
    dataset = build(write_tracks(tmp_path, cat, dog), split="all")
    sample = dataset[0]
    assert dataset.records[0].item.name == "walk.mp4" and sample.num_frames == 4  # 0, 1, 2, 4
    cats, dogs = dataset.records[0].tracks.masks([0, 1], range(4))
    assert [bool(mask.any()) for mask in cats] == [True, True, True, False]
    assert [bool(mask.any()) for mask in dogs] == [False, True, True, True]
    assert np.array_equal(dogs[1], rectangle_mask(*OTHER)) and np.array_equal(dogs[1], dogs[2])
    frame = np.asarray(sample.media[0].frames([3])[0])
    assert np.array_equal(frame, build(tmp_path, split="all")[0].frames[3])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("2,3;10,3", "2;10,3", "annotations.xml: line .*, polygon: "),
        ('points="2,3;10,3', 'points="2,x;10,3', "expected x,y;x,y"),
        ('label="cat"', 'label=""', "label is empty"),
        ('label="cat"', "", "no field 'label'"),
        ('rle="0, 128"', 'rle="0, 127"', "rle covers 127 px; expected 16x8"),
        ('rle="0, 128"', 'rle="zero"', "expected run lengths"),
        ('left="12"', 'left="22"', "leaves the picture of 32x24"),
        ('left="12"', 'left="-1"', "left is '-1'; expected a whole number"),
        ('height="24"', 'height="0"', "at least 1 px"),
        ("photo_0.png", "gone.png", "there is no gone.png"),
        ("<polygon", "<box", "not valid XML"),
    ],
)
def test_a_damaged_image_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        build(write_images(tmp_path, old, new))
    assert "annotations.xml: line " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tracks", "num_frames", "reason"),
    [
        (("",), 6, "on no frame are all tracks annotated"),
        ((at(0) + at(1, outside=1),), 0, "neither walk.mp4 nor a folder"),
        ((at(0) + at(9, outside=1),), 6, "there is no frame 9"),
        ((at(0).replace('frame="0"', 'frame="x"'),), 6, "frame is 'x'"),
    ],
)
def test_a_damaged_clip_is_refused(tmp_path: Path, tracks: tuple[str, ...], num_frames: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build(write_tracks(tmp_path, *tracks, num_frames=num_frames), split="all")


def test_boxes_are_skipped_on_request(tmp_path: Path) -> None:
    box = '<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9"></box>\n<mask'
    write_images(tmp_path, "<mask", box)
    with pytest.raises(ValueError, match="it is a box, not a mask"):
        build(tmp_path)
    dataset = build(tmp_path, split="all", own=OwnConfig(unmasked="skip"))
    assert {one.text for one in dataset.records[0].expressions} == {"the dog"}


def test_entities_are_refused_and_never_expanded(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c SYSTEM "file:///etc/passwd">]><annotations>&b;&c;</annotations>'
    (tmp_path / "a.xml").write_text(bomb)
    with pytest.raises(ValueError, match=r"a\.xml: line 1: it has a document type, which is not read"):
        read_xml(tmp_path / "a.xml")
    (tmp_path / "b.xml").write_text("<a>" * 40 + "</a>" * 40)
    with pytest.raises(ValueError, match="nested more than 32 deep"):
        read_xml(tmp_path / "b.xml")
