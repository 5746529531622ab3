"""Read grounded captions that another program wrote: one JSON file per picture, as the released code of GLaMM does.

Flow: folder -> find_captions -> recorded.py -> Benchmark.score of benchmarks/gcg.py, which writes the same layout.
Source: the public scorers of GLaMM and Sa2VA: {image_id, caption, phrases, pred_masks: [COCO run lengths]}, or the same
    without image_id below a single key.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sa2va.data.gcg import GroundedCaption
from sa2va.data.own.objects import to_rle
from sa2va.data.records import Record, read_object
from sa2va.evaluation.answers import Answer, ReadAnswers
from sa2va.metrics.text import plain_text
from sa2va.tokens import PHRASE_TOKENS


def find_captions(folder: Path) -> Callable[[GroundedCaption], ReadAnswers | None]:
    """Return a function of an item that finds its file.

    Args:
        folder: files IMAGE_ID.json.
    """

    def find(item: GroundedCaption) -> ReadAnswers | None:
        file = folder / f"{item.image_id}.json"
        return (lambda: [read_caption(file, item.media.size)]) if file.is_file() else None

    return find


def read_caption(file: Path, size: tuple[int, int]) -> Answer:
    """Read the recorded answer about one picture of a size (H, W) px; every mask has score 1.

    Raises:
        ValueError: the file is damaged, or a mask is not of the picture's size.
    """
    record = read_object(file)
    if "caption" not in record.values and len(record.values) == 1:
        ((key, values),) = record.values.items()
        record = Record(values, file, f"picture {key}")
    caption, phrases = record.get("caption", str), record.get("phrases", list)
    if not all(isinstance(phrase, str) for phrase in phrases):
        raise record.error(f"phrases is {phrases!r:.60}; expected a list of texts")
    masks = record.get("pred_masks", list)
    tracks = [[to_rle(one, *size, Record({}, file, f"pred_masks {place}"))] for place, one in enumerate(masks)]
    named = [*phrases, *[None] * len(tracks)][: len(tracks)]
    return Answer.of_masks(tracks, size, phrases=named, text=mark_phrases(caption, phrases))


def mark_phrases(caption: str, phrases: Sequence[str]) -> str:
    """Write phrase tokens around the phrases of a caption; leave it if they do not follow one another there."""
    place, parts = 0, []
    for phrase in phrases:
        match = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)").search(caption, place)
        if match is None:
            return caption
        parts += [caption[place : match.start()], PHRASE_TOKENS[0], phrase, PHRASE_TOKENS[1]]
        place = match.end()
    marked = "".join([*parts, caption[place:]])
    return marked if plain_text(marked) == plain_text(caption) else caption
