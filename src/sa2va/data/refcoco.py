"""Read RefCOCO, RefCOCO+ and RefCOCOg: expressions for objects of COCO pictures.

Flow: <folder>/instances.json (COCO), <folder>/refs(<by>).p, COCO pictures -> one record per picture with all its
    objects and sentences -> Sample.
Source: Kazemzadeh et al., EMNLP 2014; Yu et al., arXiv:1608.00272; Mao et al., arXiv:1511.02283 (split "umd").
    The released training keeps one sentence per object for ever; here each epoch draws others.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sa2va.data.coco import CocoPictures, read_coco
from sa2va.data.plain_pickle import read_plain_pickle
from sa2va.data.records import Record, read_annotations
from sa2va.data.referring import Expression, ReferredPicture, ReferringPictures
from sa2va.data.stored import DrawConfig, read_each
from sa2va.data.tracks import StoredTracks

ANNOTATIONS = "instances.json"
NO_WORD, UNASKED = "sentences without a word", "pictures without a sentence"


def build(
    name: str,
    refs: Sequence[str],
    path: str | Path,
    *,
    split: str = "train",
    draw: DrawConfig | None = None,
    as_evaluated: bool = False,
) -> ReferringPictures:
    """Read one of the datasets.

    Args:
        name: name in the catalog.
        refs: file names of the references, of which the first that exists is read.
        path: folder with instances.json and the references; pictures in coco2014/train2014 there, or in the
            evaluation's place beside it, glamm_data/images/coco2014/train2014.
        split: "train", "val", "testA", "testB" or "test"; "test" also includes testA and testB.
        draw: settings of the draws.
        as_evaluated: every sentence in the cleaned form of the dataset, which evaluation asks; otherwise the raw form
            that the players typed, without what has no word.

    Raises:
        ValueError: a file is missing, a record is damaged, or no reference belongs to the split.
    """
    folder = Path(path)
    file = next((folder / one for one in refs if (folder / one).is_file()), folder / refs[0])
    content = read_plain_pickle(file) if file.suffix == ".p" else read_annotations(file)
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
    left_out: Counter[str] = Counter()
    read = _read_cleaned if as_evaluated else _read_sentence
    records = read_each(lambda item: _read_picture(file, *item, pictures, read, left_out), sorted(grouped.items()))
    return ReferringPictures(name, records, draw or DrawConfig(), left_out)


def picture_folders(folder: Path) -> list[Path]:
    """List the places of COCO 2014 training pictures: in the dataset's folder, or where evaluation looks."""
    below = Path("coco2014", "train2014")
    return [folder / below, folder.parent.parent / "glamm_data" / "images" / below]


def _read_picture(
    file: Path,
    image_id: int,
    refs: Sequence[Record],
    pictures: CocoPictures,
    read: Callable[[Record], str | None],
    left_out: Counter[str],
) -> ReferredPicture | None:
    picture = pictures.picture(image_id, refs[0])
    objects: list[Any] = []
    expressions = []
    rows: dict[int, int] = {}
    for place, ref in enumerate(refs):
        ids = _annotation_ids(ref, pictures)
        ref_id = ref.get("ref_id", int, place)
        for ann_id in ids:
            if ann_id not in rows:
                rows[ann_id] = len(objects)
                objects.append([pictures.segmentation(ann_id, image_id, ref)])
        referents = tuple(rows[ann_id] for ann_id in ids)
        for number, sentence in enumerate(ref.children("sentences", "sentence")):
            text = read(sentence)
            if text is None:
                left_out[NO_WORD] += 1
            else:
                sent_id = sentence.get("sent_id", int, number)
                expressions.append(Expression(text, referents, id=f"{ref_id}/{sent_id}"))
    if not expressions:
        left_out[UNASKED] += 1
        return None
    tracks = StoredTracks(objects, picture.height, picture.width)
    return ReferredPicture(file, image_id, picture, tracks, tuple(expressions))


def _annotation_ids(ref: Record, pictures: CocoPictures) -> list[int]:
    """Return the objects of a reference: one id, or in gRefCOCO a list of ids, [-1] for no object.

    Crowds of a list are left out, as in the evaluation of gRefCOCO.
    """
    if not isinstance(ref.values.get("ann_id"), list):
        return [ref.get("ann_id", int)]
    ids = ref.get("ann_id", list)
    if not ids or any(type(one) is not int for one in ids) or (-1 in ids and len(ids) > 1):
        raise ref.error(f"ann_id is {ids!r:.60}; expected annotation ids, or [-1] for no object")
    return [] if ids == [-1] else [one for one in dict.fromkeys(ids) if not pictures.is_crowd(one)]


def _read_cleaned(record: Record) -> str:
    """Return a sentence in lower case without punctuation, as the dataset cleaned it; it may be empty."""
    return record.get("sent" if "sent" in record.values else "raw", str).strip()


def _read_sentence(record: Record) -> str | None:
    """Return a sentence in lower case without question marks and its final full stop; None if it has no word.

    No sentence of these datasets is a question: players of a game also typed "guy on the left?".
    """
    text = record.get("raw" if "raw" in record.values else "sent", str)
    phrase = " ".join(text.lower().replace("?", " ").split()).rstrip(".").strip()
    return phrase if any(character.isalnum() for character in phrase) else None


refcoco = partial(build, "refcoco", ("refs(unc).p",))
refcoco_plus = partial(build, "refcoco+", ("refs(unc).p",))
refcocog = partial(build, "refcocog", ("refs(umd).p",))
