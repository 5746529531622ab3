"""Read RefCOCO, RefCOCO+ and RefCOCOg: expressions for objects of COCO pictures.

Flow: <folder>/instances.json (COCO), <folder>/refs(<by>).p, COCO pictures -> one record per picture with all its
    objects and sentences -> Sample.
Source: Kazemzadeh et al., EMNLP 2014; Yu et al., arXiv:1608.00272; Mao et al., arXiv:1511.02283 (split "umd").
    The released training keeps one sentence per object for ever; here each epoch draws others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sa2va.data.coco import CocoPictures, read_coco
from sa2va.data.media_files import StoredPicture
from sa2va.data.plain_pickle import read_plain_pickle
from sa2va.data.records import Record
from sa2va.data.referring import Expression, refer
from sa2va.data.stored import Draw, DrawConfig, Extent, StoredDataset, read_each
from sa2va.data.tracks import StoredTracks
from sa2va.types import Sample

ANNOTATIONS = "instances.json"


@dataclass(frozen=True)
class ReferredPicture:
    """A picture with the objects that expressions refer to."""

    file: Path  # annotation file, for messages
    image_id: int
    picture: StoredPicture
    tracks: StoredTracks
    expressions: tuple[Expression, ...]


class ReferringPictures(StoredDataset[ReferredPicture]):
    """Referring segmentation of pictures."""

    def build_sample(self, record: ReferredPicture, draw: Draw) -> Sample:
        turns, tracks = refer(record.expressions, record.tracks, draw)
        return Sample(media=(record.picture,), turns=turns, tracks=tracks, task=self.name)

    def describe(self, record: ReferredPicture) -> str:
        return f"{record.file}: image {record.image_id}"

    def extent(self, index: int) -> Extent:
        texts = [len(one.text) for one in self.records[index].expressions]
        return Extent(1, sum(texts) * min(len(texts), self.config.num_expressions) // len(texts))


def build(
    name: str, refs: str, path: str | Path, *, split: str = "train", draw: DrawConfig | None = None
) -> ReferringPictures:
    """Read one of the three datasets.

    Args:
        name: name in the catalog.
        refs: file name of the references.
        path: folder with instances.json and the references; pictures in coco2014/train2014 there, or in the
            evaluation's place beside it, glamm_data/images/coco2014/train2014.
        split: "train", "val", "testA", "testB" or "test"; "test" also includes testA and testB.
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, a record is damaged, or no reference belongs to the split.
    """
    folder = Path(path)
    file = folder / refs
    content = read_plain_pickle(file)
    if not isinstance(content, list):
        raise ValueError(f"{file}: it holds a {type(content).__name__}; expected a list of references")
    pictures = read_coco(folder / ANNOTATIONS, picture_folders(folder))
    grouped: dict[int, list[Record]] = {}
    splits = set()
    for number, values in enumerate(content):
        ref = Record(values, file, f"reference {number}")
        splits.add(part := ref.text("split"))
        if part == split or (split == "test" and part.startswith("test")):
            grouped.setdefault(ref.get("image_id", int), []).append(ref)
    if not grouped:
        raise ValueError(f"{file}: no reference of split {split!r}; it has {', '.join(sorted(splits))}")
    records = read_each(lambda item: _read_picture(file, *item, pictures), sorted(grouped.items()))
    return ReferringPictures(name, records, draw or DrawConfig())


def picture_folders(folder: Path) -> list[Path]:
    """List the places of COCO 2014 training pictures: in the dataset's folder, or where evaluation looks."""
    below = Path("coco2014", "train2014")
    return [folder / below, folder.parent.parent / "glamm_data" / "images" / below]


def _read_picture(file: Path, image_id: int, refs: Sequence[Record], pictures: CocoPictures) -> ReferredPicture:
    picture = pictures.picture(image_id, refs[0])
    objects: list[Any] = []
    expressions = []
    rows: dict[int, int] = {}
    for ref in refs:
        ann_id = ref.get("ann_id", int)
        if ann_id not in rows:
            rows[ann_id] = len(objects)
            objects.append([pictures.segmentation(ann_id, image_id, ref)])
        for sentence in ref.children("sentences", "sentence"):
            expressions.append(Expression(_sentence(sentence), (rows[ann_id],)))
    if not expressions:
        raise refs[0].error("it has no sentences; expected at least one")
    tracks = StoredTracks(objects, picture.height, picture.width)
    return ReferredPicture(file, image_id, picture, tracks, tuple(expressions))


def _sentence(record: Record) -> str:
    """Return a sentence in lower case, without its final full stop, as the released training reads it."""
    return record.text("raw" if "raw" in record.values else "sent").lower().rstrip(".").strip()


refcoco = partial(build, "refcoco", "refs(unc).p")
refcoco_plus = partial(build, "refcoco+", "refs(unc).p")
refcocog = partial(build, "refcocog", "refs(umd).p")
