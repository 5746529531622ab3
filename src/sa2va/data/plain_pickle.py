"""Read and write pickles of plain values: lists, dictionaries, texts, numbers. Nothing in the file can be called.

Flow: refs(unc).p -> read_plain_pickle -> lists and dictionaries -> data/refcoco.py; write_plain_pickle is for
    exports in the layouts that have such files.
Source: "Restricting Globals" in Python's pickle documentation; a file that names any class or function is refused.
"""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from sa2va.files.read_limits import read_bounded

MAX_PICKLE_BYTES = 2**30  # refs of RefCOCO have 20 MB, masks of Ref-YouTube-VOS 700 MB


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, and only plain values are read")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to another file, and only plain values are read")


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of lists, tuples, dictionaries, sets, texts, bytes, numbers, booleans and None.

    Raises:
        ValueError: the file holds anything else, or is damaged.
    """
    content = read_bounded(path, MAX_PICKLE_BYTES)
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="utf-8").load()  # of the texts of Python 2
    except Exception as error:  # damaged pickles raise errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path}: it is not a pickle of plain values ({reason:.150}); fetch the original file"
        ) from error


def write_plain_pickle(path: Path, values: Any) -> None:
    """Write lists, dictionaries, texts and numbers as a pickle; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(values, protocol=4))
