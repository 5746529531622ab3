"""Write the answers of a block as Parquet, and read them back.

Flow: item, Prediction or error -> to_row -> write_rows -> OUT/parts/<block>.parquet -> read_rows -> merge.py.
Shapes: T frames, H W picture.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa2va.bulk.expressions import Item
from sa2va.files.run_folder import placed
from sa2va.inference.results import BatchResult, ObjectMasks
from sa2va.masks import measure_rle

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

DIGITS = 4  # of scores; further ones depend on the machine
_KEY = b"sa2va.run"


@cache
def row_schema() -> "pa.Schema":
    """Return the columns of a part; docs/bulk.md lists them."""
    import pyarrow as pa

    frame = pa.struct({"score": pa.float64(), "bbox": pa.list_(pa.int32()), "area": pa.int64(), "counts": pa.string()})
    found = pa.struct(
        {
            "id": pa.int32(),
            "phrase": pa.string(),
            "presence": pa.float64(),
            "score": pa.float64(),
            "frames": pa.list_(frame),
        }
    )
    return pa.schema(
        {
            "file": pa.string(),
            "expression": pa.string(),
            "text": pa.string(),
            "height": pa.int32(),
            "width": pa.int32(),
            "num_frames": pa.int32(),
            "objects": pa.list_(found),
            "error": pa.string(),
        }
    )


def to_row(item: Item, result: BatchResult) -> Row:
    """Return the row of an item: its answer, or the reason why there is none."""
    name, expression = item
    if (found := result.prediction) is None:
        return {"file": name, "expression": expression, "error": " ".join(str(result.error).split())}
    return {
        "file": name,
        "expression": expression,
        "text": found.text,
        "height": found.media.height,
        "width": found.media.width,
        "num_frames": found.num_frames,
        "objects": [_describe(one) for one in found.objects],
    }


def _describe(one: ObjectMasks) -> Row:
    frames = []
    for score, rle in zip(one.scores.tolist(), one.rles, strict=True):
        area, (x0, y0, x1, y1) = measure_rle(rle)
        box = [int(x0), int(y0), int(x1 - x0), int(y1 - y0)] if area else None  # x, y, width, height
        frames.append({"score": round(score, DIGITS), "bbox": box, "area": area, "counts": rle["counts"]})
    return {
        "id": one.id,
        "phrase": one.phrase,
        "presence": round(float(one.presence), DIGITS),
        "score": round(float(one.scores.max()), DIGITS),
        "frames": frames,
    }


def write_rows(folder: Path, place: Path, rows: Sequence[Row], key: str) -> None:
    """Write a part: it is there whole, with all rows, or not at all.

    Args:
        folder: of the run, on the same disk as `place`.
        place: the part.
        rows: in the order of the items.
        key: `Plan.key`.

    Raises:
        CannotWrite: the disk refuses the file.
    """
    import pyarrow as pa
    from pyarrow.parquet import write_table

    table = pa.Table.from_pylist(list(rows), row_schema().with_metadata({_KEY: key.encode()}))
    with placed(folder, place) as draft:
        write_table(table, draft, compression="zstd")


def read_rows(place: Path, key: str, num_rows: int, columns: Sequence[str] | None = None) -> list[Row]:
    """Read a part.

    Args:
        place: the part.
        key: `Plan.key`.
        num_rows: number of items of the block.
        columns: names of the columns to read; None = all.

    Raises:
        ValueError: it is damaged, or of another run.
    """
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(place) as file:
            metadata = file.schema_arrow.metadata or {}
            rows = file.read(None if columns is None else list(columns)).to_pylist()
    except (ValueError, OSError) as error:
        raise ValueError(f"{place}: cannot be read ({error}); delete it and repeat the command") from None
    if metadata.get(_KEY) != key.encode() or len(rows) != num_rows:
        raise ValueError(f"{place}: is not the part of this run; delete it and repeat the command")
    return rows
