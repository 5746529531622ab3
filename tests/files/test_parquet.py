"""Check how parquet files of a split are found and read, and how damaged ones are named."""

from pathlib import Path

import pytest

from sa2va.files.parquet import list_tables, read_rows, require_columns

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"),
        ("test.parquet",),
        ("test/0000.parquet",),
    ],
)
def test_files_of_a_split_are_found_in_order(names: tuple[str, ...], tmp_path: Path) -> None:
    written = [write(tmp_path / name, [{"a": number, "b": "x"}]) for number, name in enumerate(names)]
    write(tmp_path / "data" / "train-00000-of-00001.parquet", [{"a": 9}])
    found = list_tables(tmp_path, "test")
    assert found == written
    assert read_rows(found, ["a"]) == [{"a": number} for number in range(len(names))]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no parquet file of split test, as in test-00000-of-00001.parquet$"):
        list_tables(tmp_path, "test")
    path = write(tmp_path / "dev-00000-of-00001.parquet", [{"a": 1}])
    with pytest.raises(ValueError, match=r"no parquet file of split test.*; it has dev-00000-of-00001.parquet$"):
        list_tables(tmp_path, "test")
    with pytest.raises(ValueError, match=r"dev-00000-of-00001.parquet: has no column b; expected a, b$"):
        require_columns([path], ("a", "b"))
    path.write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"dev-00000-of-00001.parquet: is not a readable parquet file"):
        read_rows([path], ["a"])
