"""Fix what a bulk run does: its items, in blocks, and the settings that decide the answers.

Flow: names, expressions, settings -> start_plan -> OUT/items.parquet, a row group per block -> Plan.read(block) ->
    worker.py, which writes OUT/parts/<block>.parquet. A block whose part is there is done, whoever wrote it.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa2va.bulk.expressions import Item
from sa2va.extras import needs
from sa2va.files.atomic import flush, refusals
from sa2va.files.run_folder import require_new, require_same
from sa2va.files.scratch import open_scratch
from sa2va.journal import content_key

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ITEMS, PARTS = "items.parquet", "parts"
_SETTINGS, _ITEMS = b"sa2va.settings", b"sa2va.items"  # metadata of items.parquet: JSON, hash of the items
_DIGITS = 6  # in the name of a part


@dataclass(frozen=True)
class Plan:
    """Items of a run, as its folder holds them. Every process of a run reads the same ones.

    Attributes:
        folder: of the run.
    """

    folder: Path

    @cached_property
    def _file(self) -> "ParquetFile":
        with needs("bulk"):
            from pyarrow.parquet import ParquetFile
        try:
            return ParquetFile(self.folder / ITEMS)
        except (ValueError, OSError) as error:
            raise ValueError(f"{self.folder / ITEMS}: cannot be read ({error}); choose another folder") from None

    @property
    def _metadata(self) -> dict[bytes, bytes]:
        found = self._file.schema_arrow.metadata or {}
        if not {_SETTINGS, _ITEMS} <= set(found):
            raise ValueError(f"{self.folder / ITEMS}: was not written by sa2va bulk; choose another folder")
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the answers, as passed to `start_plan`."""
        return json.loads(self._metadata[_SETTINGS])

    @cached_property
    def key(self) -> str:
        """Hash of the settings and the items; each part holds it."""
        items = self._metadata[_ITEMS].decode()
        return content_key({"settings": self.settings, "items": items})

    @property
    def num_items(self) -> int:
        return self._file.metadata.num_rows

    @property
    def num_blocks(self) -> int:
        return self._file.num_row_groups

    def size(self, block: int) -> int:
        """Return the number of items of a block."""
        return self._file.metadata.row_group(block).num_rows

    def read(self, block: int) -> list[Item]:
        """Return the items of a block: (name of the picture or clip, expression)."""
        table = self._file.read_row_group(block)
        return list(zip(table["file"].to_pylist(), table["expression"].to_pylist(), strict=True))

    def part(self, block: int) -> Path:
        """Return the path of the file with the answers of a block."""
        return self.folder / PARTS / f"{block:0{_DIGITS}d}.parquet"

    def is_done(self, block: int) -> bool:
        return self.part(block).is_file()

    def todo(self) -> list[int]:
        """Return the blocks without a part."""
        return [block for block in range(self.num_blocks) if not self.is_done(block)]


def start_plan(folder: Path, settings: Mapping[str, Any], list_items: Callable[[], Sequence[Item]], block: int) -> Plan:
    """Return the plan of a folder; write it if the folder is new.

    Args:
        folder: of the run.
        settings: what decides the answers; JSON.
        list_items: called for a new folder only.
        block: number of items of a part.

    Raises:
        ValueError: the folder holds other files or a run with other settings, or cannot be written.
    """
    settings = json.loads(json.dumps({**settings, "block": block}))
    plan = Plan(folder)
    if not (folder / ITEMS).exists():
        require_new(folder, ITEMS)
        _write(folder, settings, list_items(), block)
    require_same(folder, plan.settings, settings)
    return plan


def _write(folder: Path, settings: dict[str, Any], items: Sequence[Item], block: int) -> None:
    """Write the items, unless another process of the run has done so meanwhile."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    columns = {"file": [name for name, _ in items], "expression": [text for _, text in items]}
    metadata = {_SETTINGS: json.dumps(settings, sort_keys=True).encode(), _ITEMS: content_key(columns).encode()}
    schema = pa.schema(dict.fromkeys(columns, pa.string()), metadata)
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with open_scratch(folder) as scratch:
            draft, place = scratch / ITEMS, folder / ITEMS
            write_table(pa.table(columns, schema), draft, row_group_size=block, compression="zstd")
            flush(draft)
            try:
                os.link(draft, place)  # fails if the file exists, unlike a renaming
            except FileExistsError:
                return
            except OSError:  # a file system without hard links
                os.replace(draft, place)
            flush(folder)
