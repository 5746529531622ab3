"""Add expressions from a table beside the annotations: expressions.csv or expressions.json.

Flow: items of a reader, path of the data -> add_expressions -> items whose objects have further expressions.
Source: our own table: columns file, object, expression; several objects of one expression are separated by ";".
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sa2va.data.own.objects import OwnAnnotations, OwnItem
from sa2va.data.records import read_table

NAMES = ("expressions.csv", "expressions.json")
COLUMNS = ("file", "object", "expression")


def add_expressions(found: OwnAnnotations, path: Path) -> list[OwnItem]:
    """Return the items with the expressions of the table beside them, if there is one.

    Args:
        found: what a format's reader returned.
        path: annotation file or folder of the data.

    Raises:
        ValueError: the table is malformed, or a row names a file or an object that is not there.
    """
    folder = path if path.is_dir() else path.parent
    tables = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(tables) > 1:
        raise ValueError(f"{folder}: there are {' and '.join(NAMES)}; keep one of them")
    if not tables:
        return list(found.items)
    items = list(found.items)
    places = _index(items)
    texts: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in read_table(tables[0], COLUMNS):
        place = places.get(row.text("file"))
        if place is None and found.is_split:
            continue  # a file of the other split
        if place is None:
            raise row.error(f"there is no annotated file {row.values['file']!r:.80}; write its name as annotated")
        known = {str(one.id) for one in items[place].objects}
        for number in (part.strip() for part in str(row.values.get("object", "")).split(";")):
            if number not in known:
                some = ", ".join(sorted(known, key=lambda n: (len(n), n))[:8]) or "none"
                raise row.error(f"{items[place].name} has no object {number!r:.40}; its objects are {some}")
            texts[place][number].append(" ".join(row.text("expression").split()))
    if not texts:
        raise ValueError(f"{tables[0]}: none of its rows names a file of this split; write the names as annotated")
    for place, of_objects in texts.items():
        objects = [
            replace(one, expressions=tuple(dict.fromkeys((*one.expressions, *of_objects.get(str(one.id), ())))))
            for one in items[place].objects
        ]
        items[place] = replace(items[place], objects=tuple(objects))
    return items


def _index(items: Sequence[OwnItem]) -> dict[str, int]:
    """Index items by name, and by the last part of the name with and without its suffix where only one has it."""
    places: dict[str, int] = {}
    shorter: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[item.name] = place
        last = PurePosixPath(item.name)
        for name in {last.name, last.stem}:
            shorter[name].append(place)
    return {name: found[0] for name, found in shorter.items() if len(found) == 1} | places
