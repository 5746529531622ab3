"""Read own data in COCO JSON: polygons, run lengths of both kinds, crowds, and expressions of annotations.

Flow: annotation file or folder -> find, read -> OwnAnnotations.
Source: https://cocodataset.org, "Data format"; `neg_category_ids` and `not_exhaustive_category_ids` are of LVIS,
    arXiv:1908.03195; `isthing` is of COCO panoptic.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sa2va.data.media_files import MediaFolders
from sa2va.data.own.objects import (
    OwnAnnotations,
    OwnConfig,
    OwnItem,
    OwnObject,
    check_picture,
    read_expressions,
    skip_unmasked,
    to_rle,
)
from sa2va.data.own.sniff import kind_of_json, list_files, split_of
from sa2va.data.records import Record, index_by, read_object
from sa2va.data.stored import read_each

ANNOTATION_FOLDERS = {"annotations", "labels"}  # beside the folders of pictures
PICTURE_FOLDERS = ("", "images", "data", "JPEGImages")


def find(path: Path) -> str | None:
    """Name what was found if the path is or holds COCO JSON."""
    files = [file for file in list_files(path, ".json")[:50] if kind_of_json(file) == "coco"]
    return f"COCO JSON ({', '.join(file.name for file in files[:4])})" if files else None


def read(path: Path, split: str, own: OwnConfig) -> OwnAnnotations:
    """Read the files of a split, or the only file.

    Raises:
        ValueError: a file is malformed, or several files may be meant.
    """
    files = _choose_files(path)
    is_split = {"train", "val"} <= set(files) and split != "all"
    if is_split:
        chosen = [files[split]]
    else:
        chosen = [file for part, file in files.items() if part != "test" or len(files) == 1]
    items: list[OwnItem] = []
    categories: dict[str, None] = {}
    notes: dict[str, int] = defaultdict(int)
    for file in chosen:
        items += _read_file(file, own, categories, notes)
    return OwnAnnotations(
        items=items, categories=tuple(categories), is_split=is_split, is_complete=len(categories) > 1, notes=dict(notes)
    )


def _choose_files(path: Path) -> dict[str, Path]:
    """Return the annotation file of each split; a single file is that of "train"."""
    files = [file for file in list_files(path, ".json") if kind_of_json(file) == "coco"]
    if not files:
        raise ValueError(f"{path}: no COCO JSON with images and annotations; expected a file such as train.json")
    if len(files) == 1:
        return {"train": files[0]}
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if part := split_of(file, path):
            found[part].append(file)
    chosen = {}
    for part, several in found.items():
        # Beside instances_train2017.json lie captions_train2017.json and person_keypoints_train2017.json.
        preferred = [file for file in several if file.name.startswith("instances")] or several
        if len(preferred) > 1:
            raise ValueError(f"{path}: {_list(preferred)} may all be meant by {part!r}; name one file")
        chosen[part] = preferred[0]
    if "train" not in chosen:
        raise ValueError(f"{path}: none of {_list(files)} has 'train' in its name; name one file")
    return chosen


def _list(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files[:6])


def _read_file(file: Path, own: OwnConfig, categories: dict[str, None], notes: dict[str, int]) -> list[OwnItem]:
    content = read_object(file)
    images = index_by(content.children("images", "image"), "id")
    names, stuff, groups = _read_categories(content)
    categories.update(dict.fromkeys(name for name in names.values() if name not in groups))
    folders = MediaFolders(*_picture_folders(file))
    pictures = read_each(
        lambda image: check_picture(_find_picture(image, folders), image.size(), image), images.values()
    )
    sizes = {image_id: picture.size for image_id, picture in zip(images, pictures, strict=True)}
    of_image: dict[object, list[OwnObject]] = defaultdict(list)

    def read_annotation(one: Record) -> tuple[object, OwnObject]:
        image_id = one.get("image_id", object)
        if not isinstance(image_id, int | str) or image_id not in images:
            raise one.error(f"image_id is {image_id!r:.40}, and no image has it")
        return image_id, _read_object(one, sizes[image_id], names, stuff, own, notes)

    annotations = index_by(content.children("annotations", "annotation"), "id")
    for image_id, found in read_each(read_annotation, annotations.values()):
        of_image[image_id].append(found)
    return [
        OwnItem(
            record=image,
            name=image.text("file_name"),
            media=picture,
            objects=tuple(of_image[image_id]),
            absent=_names_of("neg_category_ids", image, names) if "neg_category_ids" in image.values else None,
            partial=_names_of("not_exhaustive_category_ids", image, names),
        )
        for (image_id, image), picture in zip(images.items(), pictures, strict=True)
    ]


def _read_categories(content: Record) -> tuple[dict[int, str], set[int], set[str]]:
    """Return names by id, the ids of stuff, which has no separate objects, and the names of groups of categories.

    A group is not absent from a picture without objects of its name: a dog is an animal. Roboflow lists one for the
    whole dataset.
    """
    if "categories" not in content.values:
        return {}, set(), set()
    found = index_by(content.children("categories", "category"), "id")
    names = {number: one.text("name") for number, one in found.items()}
    above = [(one.values.get("supercategory"), names[number]) for number, one in found.items()]
    groups = {group for group, name in above if isinstance(group, str) and group != name}
    return names, {number for number, one in found.items() if one.values.get("isthing", 1) == 0}, groups


def _names_of(field: str, image: Record, names: dict[int, str]) -> frozenset[str]:
    numbers = image.get(field, list, [])
    unknown = [number for number in numbers if number not in names]
    if unknown:
        raise image.error(f"{field} holds {unknown[0]!r:.40}, and no category has this id")
    return frozenset(names[number] for number in numbers)


def _read_object(
    one: Record, size: tuple[int, int], names: dict[int, str], stuff: set[int], own: OwnConfig, notes: dict[str, int]
) -> OwnObject:
    category = one.values.get("category_id")
    if names and (not isinstance(category, int | str) or category not in names):
        raise one.error(f"category_id is {category!r:.40}, and no category has it")
    rle = None
    if one.values.get("segmentation") in (None, [], ""):
        skip_unmasked(one, "box", own, notes)
    else:
        rle = to_rle(one.values["segmentation"], *size, one)
    return OwnObject(
        id=one.values["id"],
        category=names[category] if names else "",  # ty: ignore[invalid-argument-type]
        frames=(rle,),
        expressions=read_expressions(one),
        is_region=bool(one.values.get("iscrowd", 0)) or category in stuff,
    )


def _picture_folders(file: Path) -> list[Path]:
    """List the usual places of pictures, by the annotation file's folder and name."""
    roots = [file.parent, *([file.parent.parent] if file.parent.name in ANNOTATION_FOLDERS else [])]
    part = file.stem.removeprefix("instances_")
    subfolders = [*PICTURE_FOLDERS, file.stem, part, f"images/{file.stem}", f"images/{part}"]
    return [root / name for root in roots for name in dict.fromkeys(subfolders)]


def _find_picture(image: Record, folders: MediaFolders) -> Path:
    """Find a picture by its annotated name, or by the last part of a path of another machine."""
    name = image.text("file_name").replace("\\", "/")
    last = PurePosixPath(name).name
    if last and last != name and any(last in folders.names(root) for root in folders.roots):
        return folders.find(last, image)
    return folders.find(name, image)
