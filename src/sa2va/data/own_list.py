"""Read the released fine-tuning format: a list of pictures with polygons and a text per object.

Flow: <folder>/annotations.json, [{"image", "mask": [[polygon, ...] per object], "text": [per object]}], pictures in
    <folder>/images -> one record per picture -> Sample.
Source: the fine-tuning guide of github.com/bytedance/Sa2VA. Objects with the same text are one group here, since the
    text alone does not tell them apart.
"""

from pathlib import Path

from sa2va.data.media_files import MediaFolders, StoredPicture
from sa2va.data.records import Record, iterate_records
from sa2va.data.referring import Expression, ReferredPicture, ReferringPictures
from sa2va.data.stored import DrawConfig, check_split, read_each
from sa2va.data.tracks import StoredTracks, check_segmentation

ANNOTATIONS, PICTURES = "annotations.json", "images"


def own_list(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ReferringPictures:
    """Read the pictures.

    Args:
        path: folder with annotations.json and images.
        split: "train".
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("own_list", split)
    folders = MediaFolders(Path(path, PICTURES))
    records = read_each(lambda record: _read_picture(record, folders), iterate_records(Path(path, ANNOTATIONS)))
    return ReferringPictures("own_list", records, draw or DrawConfig())


def _read_picture(record: Record, folders: MediaFolders) -> ReferredPicture:
    name = record.text("image")
    picture = StoredPicture(folders.find(name, record))
    masks, texts = record.get("mask", list), record.get("text", list)
    if not masks or len(masks) != len(texts):
        raise record.error(f"it has {len(masks)} masks and {len(texts)} texts; expected one text per mask")
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise record.error(f"text {row} is {text!r:.60}; expected a text")
        rows.setdefault(text.strip(), []).append(row)
    objects = [[check_segmentation(mask, record)] for mask in masks]
    tracks = StoredTracks(objects, picture.height, picture.width)  # reads the header of the picture
    expressions = tuple(Expression(text, tuple(members)) for text, members in rows.items())
    return ReferredPicture(record.file, name, picture, tracks, expressions)
