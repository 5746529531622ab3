"""Pack the answers of a benchmark as the archive that its server takes.

Flow: Benchmark.submit, answers -> files of a new folder -> OUT/submission/NAME.zip; the same answers give the same
    bytes.
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, file_name
from sa2va.evaluation.stamp import Run
from sa2va.evaluation.store import AnswerStore
from sa2va.files.atomic import whole_file
from sa2va.files.scratch import open_scratch

FOLDER = "submission"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that an archive can state


def pack(benchmark: Benchmark[Any], store: AnswerStore, run: Run, folder: Path) -> Path:
    """Write the archive of a benchmark and return its path.

    Args:
        benchmark: has `submit`.
        store: answers of all its items.
        run: that they are of.
        folder: of the evaluation.
    """
    assert benchmark.submit is not None

    def answered() -> Iterator[tuple[Any, Sequence[Answer]]]:
        for index, key in enumerate(benchmark.ids):
            stored = store.answers(benchmark, run, key)
            assert stored is not None
            yield benchmark.load(index), stored.answers

    path = folder / FOLDER / f"{file_name(benchmark.name)}.zip"
    with open_scratch(folder) as scratch, whole_file(path) as draft:
        benchmark.submit(scratch, answered())
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in scratch.rglob("*") if path.is_file()):
                entry = zipfile.ZipInfo(file.relative_to(scratch).as_posix(), _EPOCH)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, file.read_bytes())
    return path
