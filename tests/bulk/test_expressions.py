"""Test the files that give pictures their expressions."""

from pathlib import Path

import pytest

from sa2va.bulk.expressions import read_expressions

NAMES = ["a.jpg", "b/c.jpg", "d.jpg"]
OF_ALL = [(name, text) for name in NAMES for text in ("the red car", "dogs")]
OF_EACH = [("a.jpg", "the red car"), ("a.jpg", "dogs"), ("b/c.jpg", 'a "cat", sleeping')]


@pytest.mark.parametrize(
    ("name", "content", "items"),
    [
        ("e.txt", "the red car\n\n  dogs. \nthe red car?\n", OF_ALL),
        ("e.json", '["the red car.", "dogs"]', OF_ALL),
        ("e.json", '"dogs"', [(name, "dogs") for name in NAMES]),
        ("e.json", '{"b/c.jpg": "a \\"cat\\", sleeping", "a.jpg": ["the red car", "dogs", "dogs"]}', OF_EACH),
        ("e.csv", 'expression,file\nthe red car,a.jpg\ndogs,a.jpg\n"a ""cat"", sleeping",b/c.jpg\n', OF_EACH),
        (
            "e.jsonl",
            '{"file": "a.jpg", "expression": "the red car", "error": "x"}\n{"file": "a.jpg", "expression": "dogs"}\n\n'
            '{"file": "b/c.jpg", "expression": "a \\"cat\\", sleeping."}',
            OF_EACH,
        ),
    ],
)
def test_formats(tmp_path: Path, name: str, content: str, items: list[tuple[str, str]]) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert read_expressions(path).pair(NAMES) == items


def test_a_file_that_is_not_listed_stays_an_item(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text('{"a.jpg": "dogs", "gone.jpg": "dogs"}')
    assert read_expressions(path).pair(NAMES) == [("a.jpg", "dogs"), ("gone.jpg", "dogs")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.txt", "", "is empty"),
        ("e.txt", "\n \n", "holds no expression"),
        ("e.txt", "dogs\n ?? \n", r"line 2: ' \?\? ' has no word"),
        ("e.txt", b"\xff\xfe", "not a text in UTF-8"),
        ("e.yaml", "dogs", "expected a file of expressions as .txt, .json, .csv, .jsonl"),
        ("e.json", "{", "not valid JSON"),
        ("e.json", '["dogs", 3]', "expression 1: 3 is no text"),
        ("e.json", '{"a.jpg": ["dogs", null]}', "'a.jpg': None is no text"),
        ("e.csv", "file,text\na.jpg,dogs\n", "it has no column 'expression'"),
        ("e.csv", "file,expression\na.jpg,one, two\n", "line 2: it has more columns"),
        ("e.jsonl", '{"file": "a.jpg"}\n', "line 1: it has no field 'expression'"),
        ("e.jsonl", "file\n", "line 1: is not valid JSON"),
    ],
)
def test_faults(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_expressions(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_names_of_another_folder_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text('{"photos/a.jpg": "dogs"}')
    with pytest.raises(ValueError, match="none of its 1 names is among the 3 files .* write 'photos/a.jpg' as SOURCE"):
        read_expressions(path).pair(NAMES)
