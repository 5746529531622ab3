"""Check the reader of own data as pictures with masks of classes or objects."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.own_formats import BOXES_OF, OBJECTS, picture_name, write_index, write_pictures, write_voc
from support.stored_layouts import rectangle_mask, write_json, write_picture

from sa2va.data.own.dataset import OwnDataset, build

ALL = (0, 0, 32, 24)


def texts_of(dataset: OwnDataset, number: int = 0) -> dict[str, tuple[int, ...]]:
    return {one.text: one.objects for one in dataset.records[number].expressions}


def write_simple(folder: Path, *, first: int = 1, second: int = 2) -> Path:
    for number in range(3):
        write_picture(folder / "images" / f"{number}.jpg", number)
        write_index(folder / "masks" / f"{number}.png", (first, (0, 0, 32, 9)), (second, (4, 6, 20, 20)))
    return folder


def test_masks_of_objects_take_the_class_below_them(tmp_path: Path) -> None:
    dataset = build(write_voc(tmp_path), split="all")
    assert [record.item.name for record in dataset.records][:2] == [f"JPEGImages/photo_{i}.png" for i in range(2)]
    texts = texts_of(dataset)
    assert texts["the cats"] == (0, 1) and texts["the left cat"] == (0,) and texts["the dog"] == (2,)
    assert len(dataset) == 3 and {one.text for one in dataset.records[2].absent} == {
        "the cat", "the dog", "the traffic light",
    }  # fmt: skip
    wanted = [rectangle_mask(*box) for box in BOXES_OF[0]]
    assert np.array_equal(dataset.records[0].tracks.masks([0, 1, 2], [0])[:, 0], wanted)


def test_masks_of_classes_are_asked_for_by_bare_names(tmp_path: Path) -> None:
    dataset = build(write_voc(tmp_path, has_objects=False), split="all")
    assert texts_of(dataset) == {"cat": (0,), "dog": (1,)}
    assert [one.text for one in dataset.records[0].absent] == ["traffic light"]
    cats = dataset.records[0].tracks.masks([0], [0])[0, 0]
    assert np.array_equal(cats, rectangle_mask(*BOXES_OF[0][0]) | rectangle_mask(*BOXES_OF[0][1]))


def test_lists_of_voc_are_the_split(tmp_path: Path) -> None:
    write_voc(tmp_path)
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("photo_0\n")
    (lists / "val.txt").write_text("photo_1\n")
    assert [len(build(tmp_path, split=part)) for part in ("train", "val", "all")] == [1, 1, 3]
    (lists / "val.txt").write_text("photo_1\nphoto_9\n")
    with pytest.raises(ValueError, match="there is no photo_9; each mask needs a picture"):
        build(tmp_path, split="val")


@pytest.mark.parametrize("layout", ["{part}/images", "images/{part}"])
def test_folders_of_the_splits(tmp_path: Path, layout: str) -> None:
    for part in ("train", "val"):
        folder = tmp_path / layout.format(part=part)
        write_pictures(folder)
        for number in range(len(OBJECTS) if part == "train" else 1):
            write_index(Path(str(folder).replace("images", "masks")) / picture_name(number), (1, ALL))
    (tmp_path / "classes.txt").write_text("wall\n")
    assert [len(build(tmp_path, split=part)) for part in ("train", "val", "all")] == [3, 1, 4]


def test_undecided_pixels_belong_to_nothing(tmp_path: Path) -> None:
    write_json(write_simple(tmp_path, second=255) / "classes.json", {"0": "background", "1": "sky", "2": "sea"})
    dataset = build(tmp_path, split="all")
    assert texts_of(dataset) == {"sky": (0,)}
    assert not dataset.records[0].tracks.masks([0], [0])[0, 0, 6:9, 4:20].any()


def test_a_named_zero_is_a_class(tmp_path: Path) -> None:
    write_json(write_simple(tmp_path) / "classes.json", {"0": "road", "1": "sky", "2": "sea"})
    assert set(texts_of(build(tmp_path, split="all"))) == {"road", "sky", "sea"}


def test_an_object_on_no_class_is_refused(tmp_path: Path) -> None:
    write_index(write_voc(tmp_path) / "SegmentationClass/photo_1.png")
    with pytest.raises(ValueError, match=r"photo_1\.png: mask: its object 1 is of class 0, which has no name"):
        build(tmp_path, split="all")


def test_a_binary_mask_shows_the_only_class(tmp_path: Path) -> None:
    (write_simple(tmp_path, first=255, second=255) / "classes.txt").write_text("crack\n")
    dataset = build(tmp_path, split="all")
    assert texts_of(dataset) == {"crack": (0,)} and dataset.annotations.categories == ("crack",)
    mask = dataset.records[0].tracks.masks([0], [0])[0, 0]
    assert np.array_equal(mask, rectangle_mask(0, 0, 32, 9) | rectangle_mask(4, 6, 20, 20))


def test_colors_are_named_by_a_label_map(tmp_path: Path) -> None:
    colors = np.zeros((24, 32, 3), np.uint8)
    colors[:5], colors[5:9], colors[9] = (250, 10, 0), (0, 0, 7), (224, 224, 192)
    write_picture(tmp_path / "images/0.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(colors).save(tmp_path / "masks/0.png")
    (tmp_path / "labelmap.txt").write_text(
        "# label:color:parts:actions\nbackground:0,0,0::\nsky:250,10,0::\nsea:0,0,7::\n"
    )
    dataset = build(tmp_path, split="all")
    assert texts_of(dataset) == {"sea": (0,), "sky": (1,)}
    assert dataset.records[0].tracks.masks([1], [0])[0, 0].sum() == 5 * 32


def test_colors_of_the_palette_are_known(tmp_path: Path) -> None:
    colors = np.zeros((24, 32, 3), np.uint8)
    colors[:5], colors[5:9] = (128, 0, 0), (128, 128, 0)  # 1 and 3
    write_picture(tmp_path / "images/0.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(colors).save(tmp_path / "masks/0.png")
    (tmp_path / "classes.txt").write_text("aeroplane\nbicycle\nbird\n")
    dataset = build(tmp_path, split="all")
    assert set(texts_of(dataset)) == {"aeroplane", "bird"}
    assert [one.id for one in dataset.records[0].item.objects] == ["128,0,0", "128,128,0"]


def test_a_label_map_without_colors_numbers_its_classes(tmp_path: Path) -> None:
    (write_simple(tmp_path) / "labelmap.txt").write_text("# label:color\nbackground:::\nsky:::\nsea:::\n")
    assert texts_of(build(tmp_path, split="all")) == {"sky": (0,), "sea": (1,)}


def test_a_mask_of_objects_without_classes_needs_expressions(tmp_path: Path) -> None:
    write_voc(tmp_path)
    for folder in ("SegmentationClass", "JPEGImages"):
        (tmp_path / folder).rename(tmp_path / {"JPEGImages": "images"}.get(folder, "unused"))
    (tmp_path / "SegmentationObject").rename(tmp_path / "instances")
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"can be named; give categories, .* or expressions\.csv"):
        build(tmp_path, split="all")
    rows = "file,object,expression\nphoto_0,1;2,both cats\nimages/photo_1.png,1,the hungry dog\n"
    (tmp_path / "expressions.csv").write_text(rows)
    dataset = build(tmp_path, split="all")
    assert texts_of(dataset) == {"both cats": (0, 1)} and texts_of(dataset, 1) == {"the hungry dog": (0,)}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: write_index(d / "masks/0.png", (9, ALL)), r"masks/0\.png: mask: it has the value 9, which has no"),
        (lambda d: (d / "masks/0.png").write_bytes(b"no"), r"masks/0\.png"),
        (lambda d: (d / "masks/0.png").write_bytes((d / "masks/1.png").read_bytes()[:-30]), r"masks/0\.png"),
        (lambda d: write_picture(d / "masks/0.png"), r"masks/0\.png: it has \d+ values"),
        (
            lambda d: Image.new("L", (9, 9)).save(d / "masks/0.png"),
            r"masks/0\.png: mask: it is 9x9, and 0.jpg is 32x24",
        ),
        (lambda d: (d / "images/0.jpg").unlink(), "images: there is no 0; each mask needs a picture"),
        (lambda d: (d / "classes.json").write_text('{"a": "sky"}'), r"classes\.json: .*expected numbers"),
        (lambda d: (d / "classes.json").write_text('{"1": 2}'), r"classes\.json: .*expected a name"),
        (
            lambda d: Image.new("CMYK", (32, 24)).save(d / "masks/0.tif") or (d / "masks/0.png").unlink(),
            "pixels are colors .CMYK",
        ),
    ],
)
def test_damage_is_refused(tmp_path: Path, damage, reason: str) -> None:
    write_json(write_simple(tmp_path) / "classes.json", {"1": "sky", "2": "sea"})
    damage(tmp_path)
    with pytest.raises(ValueError, match=reason) as caught:
        build(tmp_path, split="all")
    assert "\n" not in str(caught.value)
