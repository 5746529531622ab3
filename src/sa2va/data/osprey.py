"""Read Osprey-724K: conversations about marked regions of a picture, and descriptions of them.

Flow: <folder>/Osprey-724K/osprey_*.json, COCO pictures in <folder>/coco -> one record per picture -> Sample, whose
    first turn marks all regions; later turns name them.
Source: Osprey, arXiv:2312.10032. A description's leading "<region1>: " is not part of the answer here.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2va.data import prompts
from sa2va.data.conversations import IMAGE_MARKER, read_conversation
from sa2va.data.media_files import MediaFolders, StoredPicture
from sa2va.data.packed import PackedRecords, pack
from sa2va.data.records import Record, iterate_records
from sa2va.data.stored import Draw, DrawConfig, Extent, StoredDataset, check_split, read_each
from sa2va.data.tracks import Segmentation, check_segmentation, decode_segmentation
from sa2va.masks import area
from sa2va.types import Sample, Turn

_MARK = re.compile(r"<region\s?(\d+)>", re.IGNORECASE)  # how the sources name a region
_HEAD = re.compile(r"<region\s?(\d+)>\s*:\s*", re.IGNORECASE)  # of a description
UNASKED, NO_PIXEL = "pictures without a question", "pictures with a region without a pixel"  # as the released training
_COCO = [f"{part}{year}" for year in (2014, 2017) for part in ("train", "val")]


@dataclass(frozen=True)
class MarkedPicture:
    """A picture with regions and the texts about them."""

    place: str  # of the record in its file
    picture: str
    size: Sequence[int]  # (H, W) px
    regions: Sequence[Segmentation]
    texts: Sequence[tuple[str, str]]  # questions and answers; of a description, its region and the text


class MarkedPictures(StoredDataset[MarkedPicture]):
    """Conversations about marked regions.

    Attributes:
        file: annotation file, for messages.
        describes: whether the texts are descriptions, for which questions are drawn.
    """

    def __init__(
        self,
        name: str,
        records: Sequence[MarkedPicture],
        config: DrawConfig,
        left_out: Counter[str],
        file: Path,
        *,
        describes: bool,
    ) -> None:
        super().__init__(name, records, config, left_out)
        self.file, self.describes = file, describes

    def build_sample(self, record: MarkedPicture, draw: Draw) -> Sample:
        texts = record.texts
        if self.describes:
            chosen = [texts[place] for place in draw.choose(len(texts), draw.config.num_expressions)]
            texts = [(draw.pick(prompts.REGION_DETAIL).format(region), text) for region, text in chosen]
        turns = [Turn(question=question, answer=answer) for question, answer in texts]
        height, width = record.size
        regions = tuple(decode_region(one, height, width) for one in record.regions)
        turns[0] = replace(turns[0], regions=regions)
        picture = StoredPicture(Path(record.picture), (height, width))
        return Sample(media=(picture,), turns=tuple(turns), task=self.name)

    def describe(self, record: MarkedPicture) -> str:
        return f"{self.file}: {record.place}"

    def extent(self, index: int) -> Extent:
        texts = self.records[index].texts
        lengths = [len(question) + len(answer) for question, answer in texts]
        asked = min(len(lengths), self.config.num_expressions) if self.describes else len(lengths)
        return Extent(1, sum(lengths) * asked // len(lengths))


def decode_region(region: Segmentation, height: int, width: int) -> NDArray[np.bool_]:
    """Decode a region, bool (H, W); polygons that cover no pixel's center mark the pixel at their middle.

    Raises:
        ValueError: it cannot be parsed.
    """
    mask = decode_segmentation(region, height, width)
    if not mask.any():
        x, y = np.concatenate([np.reshape(part, (-1, 2)) for part in region if isinstance(part, list)]).mean(0)
        mask[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))] = True
    return mask


def build(
    name: str,
    file_name: str,
    read: Callable[[Record], Sequence[tuple[str, str]]],
    path: str | Path,
    *,
    split: str = "train",
    draw: DrawConfig | None = None,
    describes: bool = False,
) -> MarkedPictures:
    """Read one of the datasets.

    Args:
        name: name in the catalog.
        file_name: annotation file.
        read: reads the texts of a record; none = the record is left out.
        path: folder with Osprey-724K and coco; the pictures may also lie in glamm_data/images/coco2014 and coco2017
            beside it.
        split: "train".
        draw: settings of the draws.
        describes: whether the texts are descriptions.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split(name, split)
    folder = Path(path)
    file = folder / "Osprey-724K" / file_name
    shared = folder.parent / "glamm_data/images"
    folders = MediaFolders(
        *(folder / "coco" / one for one in _COCO), *(shared / f"coco{one[-4:]}" / one for one in _COCO)
    )
    left_out: Counter[str] = Counter()

    def read_one(record: Record) -> bytes | None:
        texts = read(record)
        picture = _read_picture(record, texts, folders) if texts else None
        if picture is None:
            left_out[NO_PIXEL if texts else UNASKED] += 1
        return pack(picture) if picture else None

    packed = PackedRecords(MarkedPicture, read_each(read_one, iterate_records(file)))
    return MarkedPictures(name, packed, draw or DrawConfig(), left_out, file, describes=describes)


def _read_picture(record: Record, texts: Sequence[tuple[str, str]], folders: MediaFolders) -> MarkedPicture | None:
    """Read a picture; None if run lengths of a region have no pixel."""
    name, size = record.text("file_name"), record.size()
    last = name.rsplit("/", 1)[-1]  # some names begin with their folder
    path = folders.find(name, record, [last, last.split("_")[-1]])  # COCO 2017 drops "COCO_train2014_"
    annotations = record.children("annotation", "region")
    if not annotations:
        raise record.error("annotation is empty; expected a region")
    regions = [check_segmentation(one.get("segmentation", object), one, size) for one in annotations]
    if not all([_has_pixel(*pair) for pair in zip(regions, annotations, strict=True)]):
        return None
    return MarkedPicture(record.name, str(path), size, regions, texts)


def _has_pixel(region: Segmentation, record: Record) -> bool:
    try:
        return not isinstance(region, Mapping) or area(region) > 0
    except ValueError as error:
        raise record.error(str(error)) from None


def _read_conversation(record: Record, suffix: str = "") -> list[tuple[str, str]]:
    """Read a conversation, in which "<region1>" becomes the "region1" of the prompt; other brackets are text."""
    if len(record.get("conversations", list)) < 2:
        return []
    spoken = read_conversation(record, IMAGE_MARKER)
    return [(_MARK.sub(r"region\1", question) + suffix, _MARK.sub(r"region\1", answer)) for question, answer in spoken]


def _read_descriptions(record: Record) -> list[tuple[str, str]]:
    """Read texts of the form "<region1>: ...", or a text per region in their order."""
    key = "description" if "description" in record.values else "descriptions"
    texts, num_regions = record.get(key, list), len(record.get("annotation", list))
    found = []
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise record.error(f"{key} {place} is {text!r:.60}; expected a text")
        head = _HEAD.match(text.strip())
        number = int(head[1]) if head else place + 1
        answer = _MARK.sub(r"region\1", _HEAD.sub("", text.strip(), count=1) if head else text.strip())
        if not 1 <= number <= num_regions or not answer:
            raise record.error(f"{key} {place} is {text!r:.60}, one of {num_regions} regions; expected its description")
        found.append((f"region{number}", answer))
    if not found:
        raise record.error(f"{key} is empty; expected a text per region")
    return found


_read_short = partial(_read_conversation, suffix=f" {prompts.SHORT_ANSWER}")
osprey = partial(build, "osprey", "osprey_conversation.json", _read_conversation)
osprey_description = partial(
    build, "osprey_description", "osprey_detail_description.json", _read_descriptions, describes=True
)
osprey_part = partial(build, "osprey_part", "osprey_part_level.json", _read_short)
osprey_short = partial(build, "osprey_short", "osprey_short_form.json", _read_short)
osprey_lvis = partial(build, "osprey_lvis", "osprey_lvis_positive_negative.json", _read_conversation)
