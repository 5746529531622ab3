"""Build the turns of referring segmentation, the same for pictures, clips and a user's own data.

Flow: Expressions of a record -> refer -> turns and tracks of a Sample. ReferringPictures is the dataset of picture
    readers: refcoco.py, reasonseg.py and others.
Source: Sa2VA, arXiv:2501.04001, section 3.3: several expressions about one picture or clip become one conversation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sa2va.data import prompts
from sa2va.data.media_files import StoredPicture
from sa2va.data.stored import Draw, Extent, StoredDataset
from sa2va.data.tracks import UnitedTracks
from sa2va.types import MaskTracks, Sample, Span, Turn

_ARTICLE = re.compile(r"^(the|an?) ", re.IGNORECASE)  # left out after "There is no"


@dataclass(frozen=True)
class Expression:
    """Text that refers to objects.

    A question or a whole sentence is asked as it is. A noun phrase or a description is put into a template.
    """

    text: str
    objects: tuple[int, ...]  # rows of the record's tracks; none = nothing that it describes is there
    is_sentence: bool = False  # a text with a question mark always is one
    is_description: bool = False  # sentences about the object, which ask for nothing
    id: str = ""  # among the expressions of its picture, as the dataset numbers them


E = TypeVar("E", bound=Expression)


@dataclass(frozen=True)
class ReferredPicture:
    """A picture with the objects that expressions refer to."""

    file: Path  # annotation file, for messages
    image_id: int | str  # of the picture in that file
    picture: StoredPicture
    tracks: MaskTracks
    expressions: tuple[Expression, ...]
    ignored: MaskTracks | None = None  # one mask: pixels that evaluation does not count


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


def draw_expressions(expressions: Sequence[E], draw: Draw) -> list[E]:
    """Draw the expressions that `refer` asks for, in their order; a pure function of the draw."""
    return [expressions[i] for i in draw.choose(len(expressions), draw.config.num_expressions)]


def refer(expressions: Sequence[Expression], tracks: MaskTracks, draw: Draw) -> tuple[tuple[Turn, ...], MaskTracks]:
    """Draw the turns of a record.

    Args:
        expressions: all expressions of the record.
        tracks: masks of all its objects.
        draw: random choices, and how groups and absent objects are answered.

    Returns:
        One turn per drawn expression, and the tracks that their spans refer to.
    """
    united: list[tuple[int, ...]] = []
    turns = []
    for one in draw_expressions(expressions, draw):
        objects = one.objects
        if draw.config.groups == "union" or (not objects and draw.config.absent == "mask"):
            united.append(objects)
            is_answered = bool(objects) or draw.config.absent == "mask"
            objects = (len(tracks) + len(united) - 1,) if is_answered else ()
        turns.append(build_turn(one, objects, draw))
    if not united:
        return tuple(turns), tracks
    singles = [(row,) for row in range(len(tracks))]
    return tuple(turns), UnitedTracks(tracks, [*singles, *united])


def build_turn(expression: Expression, objects: tuple[int, ...], draw: Draw) -> Turn:
    """Build the turn of one expression.

    Args:
        expression: gives the text, and whether it names several objects.
        objects: rows of the sample's tracks; none = the answer says that there is no such object.
        draw: chooses the templates.
    """
    is_group = len(expression.objects) > 1
    question, noun = expression.text, "such object"
    if templates := _templates(expression, is_group):
        phrase = question if expression.is_description else _phrase(question)
        question = draw.pick(templates).format(phrase)
        noun = noun if expression.is_description else _ARTICLE.sub("", phrase)
    if not objects:
        return Turn(question=question, answer=prompts.NOT_FOUND.format(noun))
    answer = draw.pick(prompts.FOUND_GROUP if is_group else prompts.FOUND)
    place = len(answer) - 1  # before the full stop
    return Turn(question=question, answer=answer, spans=(Span(start=place, end=place, objects=objects),))


def question_of(expression: Expression) -> str:
    """Return the question that evaluation asks for an expression: the first of the templates that training draws."""
    templates = _templates(expression, is_group=False)
    if not templates:
        return expression.text
    return templates[0].format(expression.text if expression.is_description else _phrase(expression.text))


def _templates(expression: Expression, is_group: bool) -> tuple[str, ...]:
    """Return the question templates of an expression; none for a question or a sentence, which is asked as it is."""
    if expression.is_description:
        return prompts.SEGMENT_DESCRIBED
    if "?" in expression.text or expression.is_sentence:
        return ()
    return prompts.SEGMENT_GROUP if is_group else prompts.SEGMENT


def _phrase(text: str) -> str:
    return text.strip().rstrip(".").strip()
