"""Measure how many expressions that `sa2va synth` wrote for drawn clips denote their object, and only it.

Flow: OUT/expressions.jsonl, the export's record of its scenes -> scenes drawn again -> grammar.denotes -> Shares, per
    level, before and after the check, beside baselines -> commands/world.py.
Shapes: N expressions or captions; intervals resample clips.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa2va.files.json_file import read_json
from sa2va.metrics.interval import bootstrap_interval
from sa2va.synth.captioner import LEVELS
from sa2va.synth.report import EXPRESSIONS
from sa2va.world.export.clips import draw_samples
from sa2va.world.export.layout import Part, Scenes, record_of
from sa2va.world.export.refsav import BLOCK
from sa2va.world.language.grammar import denotes
from sa2va.world.scenes.scene import Scene
from sa2va.world.scenes.splits import TRAIN

LAYOUT = "refsav"
_FORMS = (  # sentence of a caption -> words of an expression
    (re.compile(r"The object is an? (.+)"), "the {}"),
    (re.compile(r"At the start it is (.+)"), "the object {} at the start"),
    (re.compile(r"It (.+)"), "the object that {}"),
)

Row = dict[str, Any]
FIELDS = {"clip", "object", "level", "text", "expression", "accepted", "caption"}  # that are read here


@dataclass(frozen=True)
class Share:
    """Share of texts that denote their object, and only it.

    Attributes:
        name: which texts.
        num: N.
        value: share of N.
        low, high: 95 % interval.
        true: share that holds for the object, whether or not for others as well.
    """

    name: str
    num: int
    value: float
    low: float
    high: float
    true: float


def check_expressions(folder: Path, data: Path) -> list[Share]:
    """Measure the results of a run on exported clips.

    Args:
        folder: results of `sa2va synth`.
        data: root of `sa2va world export --as refsav`, on which it ran.

    Raises:
        ValueError: a file is missing, or the two do not belong together.
    """
    rows = read_rows(folder / EXPRESSIONS)
    scenes = draw_scenes(data, {row["clip"] for row in rows})
    shares = []
    for level in LEVELS:
        written = [row for row in rows if row["level"] == level]
        kept, dropped = ([row for row in written if row["accepted"] is found] for found in (True, False))
        for kind, chosen in (("written", written), ("accepted", kept), ("rejected", dropped)):
            shares.append(measure(f"{level}, {kind}", chosen, scenes, read_short))
        shares.append(measure(f"{level}, of another object of the clip", exchange(kept), scenes, read_short))
    objects = group_objects(rows)
    for count in range(1, len(LEVELS) + 1):
        names = LEVELS[:count]
        texts = [{**found[LEVELS[0]], "caption": join(found, names)} for found in objects if LEVELS[0] in found]
        shares.append(measure(f"caption of {' + '.join(names)}, written", texts, scenes, read_long))
    merged = [found[LEVELS[0]] for found in objects if LEVELS[0] in found and found[LEVELS[0]]["caption"]]
    shares.append(measure("caption, merged from what was accepted", merged, scenes, read_long))
    shares.append(measure("caption of another object of the clip", exchange(merged), scenes, read_long))
    return shares


def read_rows(file: Path) -> list[Row]:
    """Read the lines of expressions.jsonl.

    Raises:
        ValueError: the file is missing, damaged or empty.
    """
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}; expected the folder of a finished sa2va synth") from None
    except ValueError as error:
        raise ValueError(f"{file}: is damaged ({error}); the command sa2va synth again writes it anew") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not FIELDS <= row.keys():
            raise ValueError(f"{file}:{number}: expected the fields {', '.join(sorted(FIELDS))}, got {row!r:.60}")
    if not rows:
        raise ValueError(f"{file}: has no expressions to measure; the captioner wrote none")
    return rows


def draw_scenes(data: Path, clips: set[str]) -> dict[str, Scene]:
    """Draw the scenes of an export again, by the name of their clip.

    Raises:
        ValueError: there is no record of an export, or a clip is not of it.
    """
    file = data / record_of(LAYOUT)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; give the folder of sa2va world export --as {LAYOUT}")
    record = read_json(file)
    if TRAIN not in record:
        raise ValueError(f"{file}: has no scenes of the split train; export with --split train")
    try:
        part = Part(TRAIN, 0, Scenes(**record[TRAIN]))
    except TypeError:
        raise ValueError(f"{file}: its scenes are {record[TRAIN]!r:.60}; restore it, or export again") from None
    drawn = draw_samples(part, BLOCK)
    scenes = {f"sav_{number:06d}": sample.meta["scene"] for number, sample in drawn}
    if strange := sorted(clips - set(scenes)):
        raise ValueError(f"{data}: has no clip {strange[0]}; give the export on which sa2va synth ran")
    return scenes


def read_short(row: Row, scene: Scene) -> frozenset[int]:
    """Return the objects that an expression denotes; none if it is not of the grammar."""
    return _denoted(scene, row["expression"])


def read_long(row: Row, scene: Scene) -> frozenset[int]:
    """Return the objects for which every sentence of a long caption holds; none if one is not of the grammar."""
    found = frozenset(range(len(scene.objects)))
    for sentence in re.split(r"\.\s*", row["caption"].rstrip(". ")):
        matches = ((pattern.fullmatch(sentence), form) for pattern, form in _FORMS)
        words = next((form.format(match[1]) for match, form in matches if match), "")
        found &= _denoted(scene, words)
    return found


def _denoted(scene: Scene, text: str) -> frozenset[int]:
    try:
        return denotes(scene, text.split()) if text else frozenset()
    except ValueError:
        return frozenset()


def measure(
    name: str, rows: Sequence[Row], scenes: dict[str, Scene], read: Callable[[Row, Scene], frozenset[int]]
) -> Share:
    """Compute the share of texts that denote their object and only it."""
    found = [read(row, scenes[row["clip"]]) for row in rows]
    only = [float(one == {row["object"]}) for one, row in zip(found, rows, strict=True)]
    true = [float(row["object"] in one) for one, row in zip(found, rows, strict=True)]
    if not rows:
        return Share(name, 0, *[float("nan")] * 4)
    low, high = bootstrap_interval(only, groups=[row["clip"] for row in rows])
    return Share(name, len(rows), sum(only) / len(rows), low, high, sum(true) / len(rows))


def group_objects(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """Group rows by object: per object its rows by level."""
    grouped: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        grouped.setdefault((row["clip"], row["object"]), {})[row["level"]] = row
    return list(grouped.values())


def join(found: dict[str, Row], levels: Sequence[str]) -> str:
    """Join the sentences of levels, whatever the check said."""
    return " ".join(found[level]["text"] for level in levels if level in found)


def exchange(rows: Sequence[Row]) -> list[Row]:
    """Give what was written to the next object of its clip; clips with one object are left out."""
    return list(_exchange(rows))


def _exchange(rows: Sequence[Row]) -> Iterator[Row]:
    clips: dict[str, list[Row]] = {}
    for row in rows:
        clips.setdefault(row["clip"], []).append(row)
    for found in clips.values():
        if len(found) > 1:
            for one, other in zip(found, [*found[1:], found[0]], strict=True):
                yield {**other, "object": one["object"]}
