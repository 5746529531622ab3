"""Read folders of Infinity-MM: a JSON file per conversation, with its picture of the same name beside it.

Flow: <folder>/**/<name>.json, <name>.jpg -> llava.ImageChat, one Sample per JSON file, in the order of their paths.
Source: Infinity-MM, arXiv:2410.18558. Every file is read when the dataset is built, not only listed.
"""

from collections.abc import Iterator
from pathlib import Path

from sa2va.data.conversations import IMAGE_MARKER, read_conversation
from sa2va.data.llava import Chat, ImageChat
from sa2va.data.media_files import MediaFolders
from sa2va.data.packed import PackedRecords, pack
from sa2va.data.records import Record, read_annotations
from sa2va.data.stored import DrawConfig, check_split, read_each

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def infinity_mm(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ImageChat:
    """Read the conversations.

    Args:
        path: folder of JSON files, at any depth.
        split: "train".
        draw: settings of the draws.

    Raises:
        ValueError: there is no JSON file, a picture is missing, or a record is damaged.
    """
    check_split("infinity_mm", split)
    folder = Path(path)
    folders = MediaFolders(folder)
    packed = read_each(lambda name: pack(_read_chat(name, folder, folders)), _list_records(folder))
    if not packed:
        raise ValueError(f"{folder}: there is no JSON file below it; expected pairs of .json and .jpg")
    return ImageChat("infinity_mm", PackedRecords(Chat, packed), draw or DrawConfig(), folder, folder)


def _list_records(folder: Path) -> Iterator[str]:
    """Yield the paths of all JSON files below a folder, without their suffix, sorted within each folder."""
    for place in sorted(one for one in (folder, *folder.rglob("*")) if one.is_dir()):
        names = sorted(one.stem for one in place.iterdir() if one.suffix == ".json")
        yield from ((place / name).relative_to(folder).as_posix() for name in names)


def _read_chat(name: str, folder: Path, folders: MediaFolders) -> Chat:
    file = folder / f"{name}.json"
    record = Record(read_annotations(file), file, "record")
    if record.values.get("image") is None:
        return Chat(name, "", read_conversation(record))
    picture = (
        folders.find(name + SUFFIXES[0], record, [name + suffix for suffix in SUFFIXES[1:]])
        .relative_to(folder)
        .as_posix()
    )
    return Chat(name, picture, read_conversation(record, IMAGE_MARKER))
