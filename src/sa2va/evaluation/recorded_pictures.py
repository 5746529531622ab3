"""Read predicted masks of pictures: a PNG per expression, or COCO results in a JSON file.

Flow: a folder or file -> find_pictures -> function of Referral -> answers (recorded.py).
    PNG: <item>.png below the folder, with the item's "/" as folders or as "_"; any pixel but 0 belongs to the mask.
    JSON: [{"id": item, "segmentation": run lengths, polygons or null, "score", "text"}, ...], one entry per mask, or
    {item: segmentation or a list of run lengths}. In place of "id", RefCOCO also takes "sent_id", the dataset's own.
    ReasonSeg takes the name of the picture alone ("image_id") for its first text.
Source: COCO's format of results (cocodataset.org).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sa2va.data.index_masks import read_indices
from sa2va.data.records import Record, read_annotations
from sa2va.data.tracks import check_segmentation, decode_segmentation
from sa2va.evaluation.answers import Answer, ReadAnswers
from sa2va.evaluation.benchmarks.expressions import Referral
from sa2va.masks import encode_rle

IDS = ("id", "sent_id", "image_id")  # of an entry; the first that it has


def find_pictures(place: Path) -> Callable[[Referral], ReadAnswers | None]:
    """Return the function that finds the predictions of an item; it returns None where one is missing.

    Raises:
        ValueError: there is no such folder or file, or an entry of the file has no id.
    """
    files = [place] if place.suffix == ".json" else sorted(place.glob("*.json")) if place.is_dir() else []
    if len(files) > 1:
        raise ValueError(f"{place}: holds {files[0].name} and {files[1].name}; give the file of this benchmark")
    if files:
        return partial(_find_entries, _read_entries(files[0]))
    if not place.is_dir():
        raise ValueError(f"{place}: there is no such folder of predictions")
    return partial(_find_png, place)


def names_of(item: Referral) -> list[str]:
    """List the names that a prediction of an item may have, besides the item's id."""
    if item.coco is not None:
        return [item.id.rpartition("/")[2]]  # of the sentence, unique in the dataset
    return [item.group] if item.expression.id == "0" else []  # the first text of a picture


def _find_png(folder: Path, item: Referral) -> ReadAnswers | None:
    names = [item.id, item.id.replace("/", "_"), *names_of(item)]
    path = next((path for name in names if (path := folder / f"{name}.png").is_file()), None)
    return None if path is None else partial(_read_png, path)


def _read_png(path: Path) -> list[Answer]:
    mask = read_indices(path, colors=True) > 0
    return [Answer.of_masks([[encode_rle(mask)]] if mask.any() else [], mask.shape)]


def _read_entries(file: Path) -> dict[str, list[Record]]:
    """Read the entries of a file by the id that each has."""
    content = read_annotations(file)
    if isinstance(content, Mapping):
        content = [{"id": key, **_as_fields(one)} for key, value in content.items() for one in _as_list(value)]
    if not isinstance(content, list):
        raise ValueError(f"{file}: it holds a {type(content).__name__}; expected a list of results")
    found: dict[str, list[Record]] = {}
    for number, values in enumerate(content):
        entry = Record(values, file, f"result {number}")
        key = next((entry.values[name] for name in IDS if name in entry.values), None)
        if not isinstance(key, int | str):
            raise entry.error(f"it has none of {', '.join(IDS)}; expected the id of an item")
        found.setdefault(str(key), []).append(entry)
    return found


def _as_list(value: Any) -> list[Any]:
    is_several = isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value)
    return value if is_several else [value]


def _as_fields(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) and "segmentation" in value else {"segmentation": value}


def _find_entries(entries: Mapping[str, list[Record]], item: Referral) -> ReadAnswers | None:
    found = next((entries[name] for name in (item.id, *names_of(item)) if name in entries), None)
    return None if found is None else lambda: [_read_entries_of(item, found)]


def _read_entries_of(item: Referral, entries: Sequence[Record]) -> Answer:
    tracks, scores = [], []
    for entry in entries:
        segmentation = entry.values.get("segmentation")
        if segmentation:
            check_segmentation(segmentation, entry, item.size)
            tracks.append([encode_rle(decode_segmentation(segmentation, *item.size))])
            scores.append(float(entry.get("score", float, 1.0)))
    return Answer.of_masks(tracks, item.size, scores=scores, text=entries[0].get("text", str, ""))
