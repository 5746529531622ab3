"""Find and check parquet files of a public dataset.

Flow: folder of a dataset, split -> list_tables -> require_columns -> lmms-eval, read_rows.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from sa2va.extras import needs


def import_pyarrow() -> tuple[ModuleType, ModuleType]:
    """Return the modules pyarrow and pyarrow.parquet.

    Raises:
        ValueError: pyarrow is not installed.
    """
    with needs("eval"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow, pyarrow.parquet


def list_tables(folder: Path, split: str) -> list[Path]:
    """List the parquet files of a split, in order: SPLIT-00000-of-00002.parquet, SPLIT.parquet or SPLIT/0000.parquet.

    Raises:
        ValueError: there is none.
    """
    found = sorted(path for path in folder.rglob("*.parquet") if path.is_file())
    named = [
        path for path in found if path.name.partition("-")[0].partition(".")[0] == split or path.parent.name == split
    ]
    if not named:
        others = f"; it has {', '.join(str(path.relative_to(folder)) for path in found[:3])}" if found else ""
        raise ValueError(
            f"{folder}: has no parquet file of split {split}, as in {split}-00000-of-00001.parquet{others}"
        )
    return named


def require_columns(tables: Sequence[Path], columns: Collection[str]) -> None:
    """Check that parquet files can be read and have some columns.

    Raises:
        ValueError: one is damaged or lacks a column.
    """
    pyarrow, parquet = import_pyarrow()
    for path in tables:
        try:
            present = parquet.read_schema(path).names
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path}: is not a readable parquet file ({error}); download it again") from None
        if missing := [name for name in columns if name not in present]:
            raise ValueError(f"{path}: has no column {missing[0]}; expected {', '.join(columns)}")


def read_rows(tables: Sequence[Path], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Read some columns of parquet files, a dictionary per row.

    Raises:
        ValueError: a file is damaged or lacks a column.
    """
    require_columns(tables, columns)
    _, parquet = import_pyarrow()
    return [row for path in tables for row in parquet.read_table(path, columns=list(columns)).to_pylist()]
