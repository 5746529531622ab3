"""Read conversations about pictures in the layout of LLaVA-1.5's mixture of 665,000; some have no picture.

Flow: <folder>/LLaVA-Instruct-150K/llava_v1_5_mix665k.json, pictures in <folder>/llava_images -> Sample, one per record.
Source: LLaVA-1.5, arXiv:2310.03744. A record without a picture has no media, where the released training recognizes
    its picture of zeros by a sum of pixel values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2va.data.conversations import IMAGE_MARKER, Conversation, build_turns, count_characters, read_conversation
from sa2va.data.media_files import MediaFolders, StoredPicture
from sa2va.data.packed import PackedRecords, pack
from sa2va.data.records import Record, iterate_records
from sa2va.data.stored import Draw, DrawConfig, Extent, StoredDataset, check_split, read_each
from sa2va.types import Sample

ANNOTATIONS = "LLaVA-Instruct-150K/llava_v1_5_mix665k.json"
PICTURES = "llava_images"


@dataclass(frozen=True)
class Chat:
    """A conversation about a picture or without one."""

    place: int | str  # number or name of the record
    picture: str  # path below the folder of pictures; empty = no picture
    conversation: Conversation


class ImageChat(StoredDataset[Chat]):
    """Conversations about a picture or without one; every draw of a record is the same.

    Attributes:
        file: annotation file or folder, for messages.
        pictures: folder of the pictures.
    """

    def __init__(self, name: str, records: Sequence[Chat], config: DrawConfig, file: Path, pictures: Path) -> None:
        super().__init__(name, records, config)
        self.file, self.pictures = file, pictures

    def build_sample(self, record: Chat, draw: Draw) -> Sample:
        media = (StoredPicture(self.pictures / record.picture),) if record.picture else ()
        return Sample(media=media, turns=build_turns(record.conversation), task=self.name)

    def describe(self, record: Chat) -> str:
        return f"{self.file}: record {record.place}"

    def extent(self, index: int) -> Extent:
        record = self.records[index]
        return Extent(int(bool(record.picture)), count_characters(record.conversation))


def llava(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ImageChat:
    """Read the conversations.

    Args:
        path: folder with LLaVA-Instruct-150K and llava_images, or another annotation file in this layout, with
            llava_images beside it or beside its folder.
        split: "train".
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("llava", split)
    file = Path(path) if Path(path).suffix == ".json" else Path(path, ANNOTATIONS)
    places = [folder / PICTURES for folder in (file.parent, file.parent.parent)]
    pictures = next((place for place in places if place.is_dir()), places[-1])
    folders = MediaFolders(pictures)
    packed = read_each(lambda numbered: pack(_read_chat(*numbered, folders)), enumerate(iterate_records(file)))
    return ImageChat("llava", PackedRecords(Chat, packed), draw or DrawConfig(), file, pictures)


def _read_chat(number: int, record: Record, folders: MediaFolders) -> Chat:
    if record.values.get("image") is None:
        return Chat(number, "", read_conversation(record))
    picture = record.text("image")
    folders.find(picture, record)
    return Chat(number, picture, read_conversation(record, IMAGE_MARKER))
