"""Build the turns of referring segmentation, the same for pictures, clips and a user's own data.

Flow: Expressions of a record -> refer -> turns and tracks of a Sample.
Source: Sa2VA, arXiv:2501.04001, section 3.3: several expressions about one picture or clip become one conversation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sa2va.data import prompts
from sa2va.data.stored import Draw
from sa2va.data.tracks import StoredTracks, UnitedTracks
from sa2va.types import MaskTracks, Span, Turn


@dataclass(frozen=True)
class Expression:
    """Text that refers to objects.

    An expression with a question mark is asked as it is; any other is put into a template.
    """

    text: str
    objects: tuple[int, ...]  # rows of the record's tracks; none = nothing that it describes is there


def refer(expressions: Sequence[Expression], tracks: StoredTracks, draw: Draw) -> tuple[tuple[Turn, ...], MaskTracks]:
    """Draw the turns of a record.

    Args:
        expressions: all expressions of the record.
        tracks: masks of all its objects.
        draw: random choices, and how groups and absent objects are answered.

    Returns:
        One turn per drawn expression, and the tracks that their spans refer to.
    """
    chosen = [expressions[i] for i in draw.choose(len(expressions), draw.config.num_expressions)]
    united: list[tuple[int, ...]] = []
    turns = []
    for one in chosen:
        objects = one.objects
        if draw.config.groups == "union" or (not objects and draw.config.absent == "mask"):
            united.append(objects)
            is_answered = bool(objects) or draw.config.absent == "mask"
            objects = (len(tracks) + len(united) - 1,) if is_answered else ()
        turns.append(build_turn(one.text, objects, draw, is_group=len(one.objects) > 1))
    if not united:
        return tuple(turns), tracks
    singles = [(row,) for row in range(len(tracks))]
    return tuple(turns), UnitedTracks(tracks, [*singles, *united])


def build_turn(text: str, objects: tuple[int, ...], draw: Draw, *, is_group: bool) -> Turn:
    """Build the turn of one expression.

    Args:
        text: the expression, or a question that contains a question mark.
        objects: rows of the sample's tracks; none = the answer says that there is no such object.
        draw: chooses the templates.
        is_group: whether the expression names several objects.
    """
    question, noun = text, "such object"
    if "?" not in text:
        noun = text.strip().rstrip(".").strip()
        question = draw.pick(prompts.SEGMENT_GROUP if is_group else prompts.SEGMENT).format(noun)
    if not objects:
        absent = noun.removeprefix("the ") if "?" not in text else noun
        return Turn(question=question, answer=prompts.NOT_FOUND.format(absent))
    answer = draw.pick(prompts.FOUND_GROUP if is_group else prompts.FOUND)
    place = len(answer) - 1  # before the full stop
    return Turn(question=question, answer=answer, spans=(Span(start=place, end=place, objects=objects),))
