"""Read the expressions of a bulk run: the same ones for all files, or some for each.

Flow: FILE of --expressions -> read_expressions -> Expressions; with the names of a source -> pair -> items of plan.py.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sa2va.data.records import Record, read_annotations, read_table
from sa2va.files.read_limits import MAX_DATA_BYTES, read_bounded
from sa2va.tokens import require_utf8, strip_expression

COLUMNS = ("file", "expression")
Item = tuple[str, str]  # name of a picture or clip, expression


@dataclass(frozen=True)
class Expressions:
    """Expressions without duplicates, in the order of their file.

    Attributes:
        file: where they come from.
        of_all: those for every picture or clip; empty if `of_each` has some.
        of_each: name of a picture or clip -> those for it alone.
    """

    file: Path
    of_all: tuple[str, ...] = ()
    of_each: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def pair(self, names: Sequence[str]) -> list[Item]:
        """Return the items of a run, sorted by name: each picture or clip with each of its expressions.

        Args:
            names: of the pictures and clips of a source. A file named in `of_each` alone becomes an item, too, which
                fails when it is opened.

        Raises:
            ValueError: `of_each` names none of them.
        """
        if self.of_all:
            return [(name, text) for name in names for text in self.of_all]
        if not self.of_each.keys() & set(names):
            raise ValueError(
                f"{self.file}: none of its {len(self.of_each)} names is among the {len(names)} files of SOURCE; "
                f"write {min(self.of_each)!r:.80} as SOURCE does, as in {names[0]!r:.80}"
            )
        return [(name, text) for name in sorted(self.of_each) for text in self.of_each[name]]


def read_expressions(path: Path) -> Expressions:
    """Read the expressions of a file.

    Args:
        path: .txt: one expression a line, for all files. .json: a list of them, for all files, or an object that maps
            a name to an expression or a list. .csv: columns file and expression. .jsonl: a JSON object a line with
            these fields, as failures.jsonl has.

    Raises:
        ValueError: the file is missing, malformed, or has no expression, or one has no word.
    """
    readers = {".txt": _read_lines, ".json": _read_json, ".csv": _read_csv, ".jsonl": _read_jsonl}
    if (read := readers.get(path.suffix.lower())) is None:
        raise ValueError(f"{path}: expected a file of expressions as {', '.join(readers)}")
    texts: dict[str | None, dict[str, None]] = {}
    for place, name, text in read(path):
        if not (expression := strip_expression(text)):
            raise ValueError(f"{path}: {place}: {text!r:.40} has no word; write what to look for, as in 'the red car'")
        texts.setdefault(name, {})[require_utf8(expression, f"{path}: {place}:")] = None
    if not texts:
        raise ValueError(f"{path}: holds no expression; write what to look for, as in 'the red car'")
    of_all = tuple(texts.pop(None, ()))
    return Expressions(path, of_all, {str(name): tuple(some) for name, some in texts.items()})


Found = Iterator[tuple[str, str | None, str]]  # place in the file, name of a picture or clip, expression


def _read_lines(path: Path) -> Found:
    for number, line in enumerate(_decode(path).splitlines(), 1):
        if line.strip():
            yield f"line {number}", None, line


def _read_json(path: Path) -> Found:
    values = read_annotations(path)
    if isinstance(values, dict):
        pairs = [(f"{name!r:.80}", name, text) for name, some in values.items() for text in _as_list(some)]
    else:
        pairs = [(f"expression {place}", None, text) for place, text in enumerate(_as_list(values))]
    for place, name, text in pairs:
        if not isinstance(text, str):
            raise ValueError(f"{path}: {place}: {text!r:.40} is no text; expected an expression or a list of them")
        yield place, name, text


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _read_csv(path: Path) -> Found:
    for row in read_table(path, COLUMNS):
        yield row.name, row.text("file"), row.text("expression")


def _read_jsonl(path: Path) -> Found:
    for number, line in enumerate(_decode(path).splitlines(), 1):
        if line.strip():
            try:
                values = json.loads(line)
            except ValueError:
                raise ValueError(f"{path}: line {number}: is not valid JSON; expected an object a line") from None
            row = Record(values, path, f"line {number}")
            yield row.name, row.text("file"), row.text("expression")


def _decode(path: Path) -> str:
    try:
        return read_bounded(path, MAX_DATA_BYTES).decode("utf-8-sig")
    except UnicodeError:
        raise ValueError(f"{path}: is not a text in UTF-8; convert it, as with iconv -f latin1 -t utf-8") from None
