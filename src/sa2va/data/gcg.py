"""Read grounded captions: GranD-f, OpenPSG, RefCOCOg and Flickr30k as prepared for grounded conversation generation.

Flow: <folder>/annotations/<file>, pictures in <folder>/images -> one record per caption -> Sample with one turn.
    Splits val and test of GranD-f: annotations/gcg_val_test/<split>_gcg_coco_{caption,mask}_gt.json, COCO files with
    the captions of a picture and one mask per phrase -> one record per picture, which evaluation reads as well.
Source: GLaMM, arXiv:2311.03356. The questions are those of prediction (prompts.GROUNDED_CAPTION). We differ from the
    released training, which strips a caption before it applies offsets and lets phrases overlap: see phrases.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sa2va.data import prompts
from sa2va.data.media_files import MediaFolders, StoredPicture
from sa2va.data.packed import PackedRecords, pack
from sa2va.data.phrases import QUOTES, Phrase, find_phrases, separate, strip_caption
from sa2va.data.records import Record, group_by, index_by, iterate_records, read_object
from sa2va.data.stored import Draw, DrawConfig, Extent, StoredDataset, check_split, read_each
from sa2va.data.tracks import Segmentation, StoredTracks, UnitedTracks, check_segmentation
from sa2va.types import MaskTracks, Sample, Span, Turn

MIN_WORDS, MIN_SIDE = 3, 32  # of a caption and a picture of Flickr30k, as the released training
NOT_GROUNDED = "captions without a grounded phrase"
EVALUATION_SPLITS = ("val", "test")
TOO_SMALL = f"captions below {MIN_WORDS} words or pictures below {MIN_SIDE} px"


@dataclass(frozen=True)
class GroundedCaption:
    """A caption whose phrases have objects."""

    place: str  # of the record in its file
    picture: str
    size: Sequence[int] | None  # (H, W) px; None = that of the picture
    caption: str
    spans: Sequence[tuple[int, int, Sequence[int]]]  # start and end of a phrase, its objects
    objects: Sequence[Segmentation]
    image_id: str = ""  # this and the following: splits val and test of GranD-f
    references: Sequence[str] = ()  # captions as annotated
    labels: Sequence[str] = ()  # phrases as annotated, one per object

    @property
    def media(self) -> StoredPicture:
        """The picture, whose size is read from its header where the annotations have none."""
        return StoredPicture(Path(self.picture), (self.size[0], self.size[1]) if self.size else None)


class GroundedCaptions(StoredDataset[GroundedCaption]):
    """Captions of pictures with a mask for every object of a phrase; draws differ in the question."""

    def __init__(
        self, name: str, records: Sequence[GroundedCaption], config: DrawConfig, left_out: Counter[str], file: Path
    ) -> None:
        super().__init__(name, records, config, left_out)
        self.file = file

    def build_sample(self, record: GroundedCaption, draw: Draw) -> Sample:
        picture = record.media
        tracks: MaskTracks = StoredTracks([[one] for one in record.objects], picture.height, picture.width)
        groups = [tuple(objects) for _, _, objects in record.spans]
        if draw.config.groups == "union" and any(len(group) > 1 for group in groups):
            tracks, groups = UnitedTracks(tracks, groups), [(place,) for place in range(len(groups))]
        spans = [
            Span(start=start, end=end, objects=group)
            for (start, end, _), group in zip(record.spans, groups, strict=True)
        ]
        turn = Turn(question=draw.pick(prompts.GROUNDED_CAPTION), answer=record.caption, spans=tuple(spans))
        return Sample(media=(picture,), turns=(turn,), tracks=tracks, task=self.name)

    def describe(self, record: GroundedCaption) -> str:
        return f"{self.file}: {record.place}"

    def extent(self, index: int) -> Extent:
        return Extent(1, len(self.records[index].caption))


def gcg_grandf(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> GroundedCaptions:
    """Read the captions of GranD-f, written by people; see `_build`."""
    check_split("gcg_grandf", split, ("train", *EVALUATION_SPLITS))
    if split in EVALUATION_SPLITS:
        return _build_evaluation(Path(path), split, draw)
    return _build("gcg_grandf", path, "GranDf_HA_GCG_train.json", ["grandf/train"], _read_groundings, draw)


def gcg_openpsg(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> GroundedCaptions:
    """Read the captions of OpenPSG; see `_build`."""
    check_split("gcg_openpsg", split, ("train", "val"))
    places = ["coco2017", "coco2017/train2017", "coco2017/val2017"]
    return _build("gcg_openpsg", path, f"OpenPsgGCG_{split}.json", places, _read_groundings, draw)


def gcg_refcocog(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> GroundedCaptions:
    """Read the captions of RefCOCOg; see `_build`."""
    check_split("gcg_refcocog", split, ("train", "val"))
    file = f"RefCOCOg_GCG_{split}.json"
    return _build("gcg_refcocog", path, file, ["coco2014/train2014"], _read_references, draw)


def gcg_flickr30k(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> GroundedCaptions:
    """Read the captions of Flickr30k; see `_build`."""
    check_split("gcg_flickr30k", split, ("train", "val"))
    places = ["flickr30k/Flickr30K", "flickr30k"]
    file = f"flickr_mergedGT_GCG_{split}.json"
    return _build("gcg_flickr30k", path, file, places, _read_flickr, draw, _read_flickr_list)


# A caption before its phrases are separated: file name of the picture, size, caption, phrases, objects.
_Raw = tuple[str, tuple[int, int] | None, str, list[Phrase], list[Any]]


def _build(
    name: str,
    path: str | Path,
    file_name: str,
    places: Iterable[str],
    read: Callable[[Any], _Raw | None],
    draw: DrawConfig | None,
    read_file: Callable[[Path], Iterable[Any]] = iterate_records,
) -> GroundedCaptions:
    """Read one of the four datasets.

    Args:
        name: name in the catalog.
        path: folder with annotations and images.
        file_name: annotation file, in annotations or annotations/train.
        places: folders of the pictures below images, tried in order.
        read: reads a caption; None = a rule leaves it out.
        draw: settings of the draws.
        read_file: reads the annotation file.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    folder = Path(path)
    files = [folder / "annotations" / below / file_name for below in ("", "train")]
    file = next((one for one in files if one.is_file()), files[0])
    folders = MediaFolders(*(folder / "images" / place for place in places))
    left_out: Counter[str] = Counter()

    def read_one(item: Any) -> bytes | None:
        raw = read(item)
        record = item[0] if isinstance(item, tuple) else item
        if raw is None or not raw[3]:
            left_out[TOO_SMALL if raw is None else NOT_GROUNDED] += 1
            return None
        return pack(_check(raw, record, folders))

    packed = read_each(read_one, read_file(file))
    return GroundedCaptions(name, PackedRecords(GroundedCaption, packed), draw or DrawConfig(), left_out, file)


def _build_evaluation(folder: Path, split: str, draw: DrawConfig | None) -> GroundedCaptions:
    """Read a split that evaluation reads; records are sorted by the id of their picture, as COCO's scorer sorts them.

    Raises:
        ValueError: a file is missing, a record is damaged, or a picture has no caption.
    """
    captions, masks = (
        folder / "annotations/gcg_val_test" / f"{split}_gcg_coco_{kind}_gt.json" for kind in ("caption", "mask")
    )
    content = read_object(captions)
    said = group_by(content.children("annotations", "annotation"), "image_id")
    drawn = group_by(read_object(masks).children("annotations", "annotation"), "image_id")
    folders = MediaFolders(folder / "images/grandf/val_test")

    def read_one(item: tuple[Any, Record]) -> bytes:
        image_id, image = item
        if image_id not in said:
            raise image.error(f"there is no caption of image {image_id!r:.60}; expected an annotation of it")
        texts, labels = [one.text("caption") for one in said[image_id]], said[image_id][0].get("labels", list)
        if not all(isinstance(label, str) for label in labels):
            raise said[image_id][0].error(f"labels is {labels!r:.60}; expected a list of texts")
        objects = [one.get("segmentation", object) for one in drawn.get(image_id, ())]
        phrases = [one for one in find_phrases(texts[0], labels) if one.objects[0] < len(objects)]
        name = image.text("file_name") if "file_name" in image.values else f"{image_id}.jpg"
        size = image.size() if "height" in image.values else None
        record = _check((name, size, texts[0], phrases, objects), image, folders)
        return pack(replace(record, image_id=str(image_id), references=texts, labels=labels))

    images = index_by(content.children("images", "image"), "id")
    if unknown := [one[0] for image_id, one in drawn.items() if image_id not in images]:
        raise unknown[0].error(f"there is no such image in {captions.name}; the two files do not belong together")
    order = sorted(images.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    records = PackedRecords(GroundedCaption, read_each(read_one, order))
    return GroundedCaptions("gcg_grandf", records, draw or DrawConfig(), Counter(), captions)


def _check(raw: _Raw, record: Record, folders: MediaFolders) -> GroundedCaption:
    picture, size, caption, phrases, objects = raw
    path = folders.find(picture, record)
    try:
        text, phrases = strip_caption(caption, separate(caption, phrases))
    except ValueError as error:
        raise record.error(str(error)) from None
    checked = [check_segmentation(one, record, size) for one in objects]
    spans = [(one.start, one.end, one.objects) for one in phrases]
    return GroundedCaption(record.name, str(path), size, text, spans, checked)


def _read_groundings(record: Record) -> _Raw:
    """Read `groundings`: phrase -> {token_positives, rle_masks}, or null for a phrase without an object."""
    caption = record.get("caption", str)
    lead = len(caption) - len(caption.lstrip(QUOTES))
    phrases: list[Phrase] = []
    objects: list[Any] = []
    values = record.get("groundings", dict)
    for text in [text for text, one in values.items() if one is not None]:
        one = Record(values[text], record.file, f"{record.name}, phrase {text!r:.60}")
        if parts := one.get("rle_masks", list):
            start, end = _read_offsets(one.get("token_positives", list), one)
            if caption[start:end].lower() != text.lower():
                if caption[start + lead : end + lead].lower() == text.lower():
                    start, end = start + lead, end + lead  # counted from behind the opening quote
                elif found := find_phrases(caption, [text]):
                    start, end = found[0].start, found[0].end
            phrases.append(Phrase(start, end, (len(objects),)))
            objects.append(parts)
    size = record.size() if "height" in record.values else None
    return record.text("file_name"), size, caption, phrases, objects


def _read_references(record: Record) -> _Raw:
    """Read {id: {img_file_name, caption, refs}}, whose phrases are found in the caption by their text."""
    if len(record.values) != 1:
        raise record.error(f"it has {len(record.values)} fields; expected one, the id of the caption")
    ((_, inner),) = record.values.items()
    record = Record(inner, record.file, record.name)
    caption = record.get("caption", str)
    refs = record.children("refs", "reference")
    phrases = find_phrases(caption, [ref.get("sentence", str) for ref in refs])
    rows = {row: place for place, row in enumerate(sorted(row for one in phrases for row in one.objects))}
    phrases = [Phrase(one.start, one.end, tuple(rows[row] for row in one.objects)) for one in phrases]
    return record.text("img_file_name"), None, caption, phrases, [refs[row].get("segmentation", object) for row in rows]


def _read_flickr_list(file: Path) -> list[tuple[Record, list[Record]]]:
    """Read a COCO file whose images are captions, each with its annotations."""
    content = read_object(file)
    annotations = group_by(content.children("annotations", "annotation"), "image_id")
    images = content.children("images", "image")
    return [(image, annotations.get(image.get("id", int), [])) for image in images]


def _read_flickr(item: tuple[Record, list[Record]]) -> _Raw | None:
    """Read a caption; boxes without a pixel on the picture and annotations to be ignored are left out."""
    image, annotations = item
    caption, (height, width) = image.get("caption", str), image.size()
    if len(caption.split()) < MIN_WORDS or min(height, width) < MIN_SIDE:
        return None
    phrases: list[Phrase] = []
    objects: list[Any] = []
    for one in annotations:
        box = one.get("bbox", list)
        if len(box) != 4 or not all(isinstance(side, int | float) for side in box):
            raise one.error(f"bbox is {box!r:.60}; expected [x, y, width, height]")
        inner = [min(box[axis] + box[2 + axis], (width, height)[axis]) - max(box[axis], 0) for axis in (0, 1)]
        if one.get("ignore", object, False) or min(inner) <= 0 or min(box[2:]) < 1 or one.get("area", float, 1) <= 0:
            continue
        spans = one.get("tokens_positive", list)
        if not spans:
            raise one.error("tokens_positive is empty; expected [[start, end], ...]")
        phrases.append(Phrase(*_read_offsets(spans[0], one), (len(objects),)))
        objects.append(one.get("sam_mask", object))
    return image.text("file_name"), (height, width), caption, phrases, objects


def _read_offsets(values: Any, record: Record) -> tuple[int, int]:
    if not isinstance(values, list) or len(values) != 2 or any(type(one) is not int for one in values):
        raise record.error(f"the offsets of a phrase are {values!r:.60}; expected [start, end]")
    return values[0], values[1]
