"""Leave out pictures that a model was trained on, and report the figures of the others.

Flow: files of training data -> read_seen -> ids of COCO pictures; records of a benchmark whose pictures are COCO's
    (Record["coco"]) -> unseen_figures -> figures beside those of all pictures.
Source: val and test pictures of RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO lie in COCO train2014, all of which lies in
    train2017; and the three were split apart, so that pictures of RefCOCOg's val are in the train of RefCOCO.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

from sa2va.data.plain_pickle import read_plain_pickle
from sa2va.data.records import MAX_ANNOTATION_BYTES
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, measure
from sa2va.files.json_file import read_json_value

COCO = "coco"  # key of a Record: id of its picture in COCO
TRAIN = "train"  # split of references that models are trained on
REFERENCES = ("refs(*).p", "grefs(*).json", "grefs(*).p")
UNSEEN = "unseen pictures"
COCO_NAME = re.compile(r"(?:^|_)(\d{12})$")  # end of a file's stem, as in COCO_train2014_000000581282


def read_seen(paths: Iterable[Path]) -> frozenset[int]:
    """Read which COCO pictures a model was trained on.

    Args:
        paths: each a text file with an id or file name a line; a JSON list of them; COCO annotations, of whose images
            the ids are taken from their file names or else from their ids; references of RefCOCO, of which those of
            the split "train" count; or a folder, of which all such references below it are read.

    Raises:
        ValueError: a file is missing or of another kind, or names no picture.
    """
    found: set[int] = set()
    for path in paths:
        if not (named := _read(path)):
            raise ValueError(f"{path}: names no picture that a model was trained on")
        found |= named
    return frozenset(found)


def _read(path: Path) -> set[int]:
    if path.is_dir():
        files = sorted(file for pattern in REFERENCES for file in path.rglob(pattern))
        if not files:
            raise ValueError(
                f"{path}: holds no references; expected refs(unc).p, refs(umd).p or grefs(unc).json below it"
            )
        return {one for file in files for one in _read(file)}
    if not path.is_file():
        raise ValueError(f"{path}: is missing; give ids or file names of COCO pictures, COCO annotations or references")
    if path.suffix == ".p":
        entries: Any = read_plain_pickle(path)
    elif path.suffix == ".json":
        entries = read_json_value(path, MAX_ANNOTATION_BYTES)
    else:
        entries = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if isinstance(entries, dict):
        entries = entries.get("images")
    if not isinstance(entries, list):
        raise ValueError(f"{path}: holds no pictures; expected a list, or COCO annotations with images")
    is_train = [not isinstance(one, dict) or one.get("split", TRAIN) == TRAIN for one in entries]
    entries = list(compress(entries, is_train))
    return {_picture_id(entry, path, number) for number, entry in enumerate(entries, 1)}


def _picture_id(entry: Any, path: Path, number: int) -> int:
    """Return the id of a COCO picture: a number, the digits that end a file name, or those of an image or reference."""
    if isinstance(entry, dict):
        if "split" in entry:  # a reference, whose file names end in the number of an annotation
            return _picture_id(entry.get("image_id"), path, number)
        named = COCO_NAME.search(Path(str(entry.get("file_name", ""))).stem)
        return int(named[1]) if named else _picture_id(entry.get("id"), path, number)
    if isinstance(entry, int) and not isinstance(entry, bool):
        return entry
    text = str(entry).strip()
    if text.isdecimal():
        return int(text)
    named = COCO_NAME.search(Path(text).stem)
    if named is None:
        raise ValueError(f"{path}, entry {number}: {text!r:.60} is no COCO picture; expected an id or a file name")
    return int(named[1])


def unseen_figures(benchmark: Benchmark[Any], records: Sequence[Record], seen: frozenset[int]) -> list[Figure]:
    """Compute the figures over pictures that the model was not trained on, and how many these are.

    Args:
        benchmark: whose records they are.
        records: of all items.
        seen: of `read_seen`.

    Returns:
        Nothing if the pictures of the benchmark are not COCO's.
    """
    known = [record for record in records if COCO in record]
    if not known:
        return []
    pictures = {record[COCO] for record in known}
    left = [record for record in records if record.get(COCO) not in seen]
    rows = [float(picture not in seen) for picture in sorted(pictures)]
    share = replace(measure(f"share of {UNSEEN}", rows), low=None, high=None)  # counted, not estimated
    if not left:
        note = f"none is left: all {len(pictures)} were in the training data"
        return [replace(share, note=note)]
    return [share, *(replace(figure, name=f"{figure.name}, {UNSEEN}") for figure in benchmark.summarize(left))]
