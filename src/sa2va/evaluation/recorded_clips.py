"""Read predicted masks of clips from results.json, or from a picture per frame.

Flow: a folder -> find_clips -> function of ClipItem -> answers (recorded.py).
Source: {clip: {expression: {"prediction_masks": [run lengths of each frame]}}} as the released evaluation of Sa2VA
    writes it; <clip>/<expression>/<frame>.png below the folder or its Annotations as servers read it;
    anno_<k>/<clip>/<frame>.png, whose pixels are numbers of objects, as the official code of DAVIS reads it.
Shapes: E expressions of an item, T frames, H W picture.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sa2va.data.clips import ClipExpression
from sa2va.data.index_masks import read_indices
from sa2va.data.mask_dict import RunLengthTrack
from sa2va.data.records import Record, read_object
from sa2va.data.tracks import decode_segmentation
from sa2va.evaluation.answers import Answer, ReadAnswers
from sa2va.evaluation.benchmarks.clips import ClipItem
from sa2va.evaluation.mask_files import ANNOTATIONS, ANNOTATOR
from sa2va.masks import Mask, encode_rle

RESULTS = "results.json"


def find_clips(place: Path) -> Callable[[ClipItem], ReadAnswers | None]:
    """Return the function that finds the predictions of an item; it returns None where one is missing.

    Raises:
        ValueError: there is no such folder, or results.json is damaged.
    """
    file = place if place.suffix == ".json" else place / RESULTS
    if file.is_file():
        return partial(_find_results, read_object(file))
    if not place.is_dir():
        raise ValueError(f"{place}: there is no such folder of predictions")
    if (place / ANNOTATOR.format(0)).is_dir():
        return partial(_find_annotator, place)
    return partial(_find_pictures, place / ANNOTATIONS if (place / ANNOTATIONS).is_dir() else place)


def _find_results(results: Record, item: ClipItem) -> ReadAnswers | None:
    clips = results.values
    written = clips.get(item.record.video, {})
    if not isinstance(written, dict) or any(one.id not in written for one in item.expressions):
        return None
    names = [f"video {item.record.video}, expression {one.id}" for one in item.expressions]
    found = [Record(written[one.id], results.file, name) for one, name in zip(item.expressions, names, strict=True)]
    return lambda: [_read_result(one, item) for one in found]


def _read_result(written: Record, item: ClipItem) -> Answer:
    """Read one track, or a list of several; none at all is an answer without a mask."""
    masks = written.get("prediction_masks", list)
    several = masks if masks and isinstance(masks[0], list) else [masks] if masks else []
    tracks = [RunLengthTrack(track, written) for track in several]
    height, width = next((track.size for track in tracks if track.size), item.size)
    empty = encode_rle(np.zeros((height, width), bool))
    found = [
        [encode_rle(decode_segmentation(one, height, width)) if one else empty for one in track] for track in tracks
    ]
    num_frames = len(found[0]) if found else item.record.num_frames
    return Answer.of_masks(found, (height, width), num_frames, text=written.get("text_prediction", str, ""))


def _find_pictures(folder: Path, item: ClipItem) -> ReadAnswers | None:
    places = [folder / item.record.video / one.id for one in item.expressions]
    return _find_files(item, places, lambda one, path: read_indices(path, colors=True) > 0)


def _find_annotator(folder: Path, item: ClipItem) -> ReadAnswers | None:
    place = folder / ANNOTATOR.format(item.expressions[0].annotator) / item.record.video
    return _find_files(item, [place] * len(item.expressions), lambda one, path: read_indices(path) == one.number)


def _find_files(
    item: ClipItem, places: Sequence[Path], read: Callable[[ClipExpression, Path], Mask]
) -> ReadAnswers | None:
    """Find a picture per frame for each expression."""
    files = [[place / f"{name}.png" for name in item.record.frames] for place in places]
    if not all(file.is_file() for several in files for file in several):
        return None
    pairs = list(zip(item.expressions, files, strict=True))
    return lambda: [_read_files(several, partial(read, one)) for one, several in pairs]


def _read_files(files: Sequence[Path], read: Callable[[Path], Mask]) -> Answer:
    rles = [encode_rle(read(file)) for file in files]
    height, width = rles[0]["size"]
    for file, rle in zip(files, rles, strict=True):
        if rle["size"] != [height, width]:
            raise ValueError(f"{file}: it is {rle['size'][1]}x{rle['size'][0]}, those before are {width}x{height}")
    return Answer.of_masks([rles], (height, width), len(rles))
