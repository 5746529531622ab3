"""Archives of arrays are refused, before memory is taken, when they unpack or claim to more than there can be."""

import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from sa2va.files.read_limits import MAX_DATA_BYTES
from sa2va.gaze.datasets.archives import read_arrays, read_mat


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def claiming(shape: str) -> bytes:
    """An .npy file of 8 bytes whose header has another shape."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(8)


def bomb(path: Path) -> Path:
    """A quarter of a GiB of zeros in one member, and another one."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(MAX_DATA_BYTES // 2**24 + 1):
            file.write(bytes(2**24))
    return path


def large(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(MAX_DATA_BYTES + 1)
    return path


def mat_bomb(path: Path, order: str = "<") -> Path:
    """A compressed element of MATLAB 5 that goes on unpacking."""
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(2**24)) for _ in range(MAX_DATA_BYTES // 2**24 + 1)) + packer.flush()
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}HH", 0x0100, 0x4D49)
    path.write_bytes(head + struct.pack(f"{order}II", 15, len(body)) + body)
    return path


CASES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any], str]] = {
    "unpacks without end": (bomb, read_arrays, "decompress to 285212672 bytes or more"),
    "claims a huge shape": (
        lambda path: zipped(path, {"a.npy": claiming("(1000000000000, )")}),
        read_arrays,
        "a.npy: the header claims 8000000000000 bytes, expected at most the 136",
    ),
    "many members": (
        lambda path: zipped(path, {f"{number}.npy": npy(np.zeros(1)) for number in range(100)}),
        read_arrays,
        "100 members decompress",
    ),
    "objects": (lambda path: zipped(path, {"a.npy": npy(np.array([None]))}), read_arrays, "not an archive of arrays"),
    "no array": (lambda path: zipped(path, {"a.npy": b"text"}), read_arrays, "not an archive of arrays"),
    "a large file": (large, read_arrays, "more than the 268435456 allowed"),
    "a large MATLAB file": (large, read_mat, "more than the 268435456 allowed"),
    "MATLAB, unpacks without end": (mat_bomb, read_mat, "members decompress to 26"),
    "MATLAB, the other byte order": (lambda path: mat_bomb(path, ">"), read_mat, "members decompress to 26"),
    "a device": (lambda path: Path("/dev/zero"), read_arrays, "/dev/zero: not a regular file"),
    "a MATLAB device": (lambda path: Path("/dev/zero"), read_mat, "/dev/zero: not a regular file"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_too_much_is_refused_at_once(name: str, tmp_path: Path) -> None:
    make, read, message = CASES[name]
    path = make(tmp_path / "file.npz")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**27  # half of what it unpacks to
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_arrays_and_variables_are_given_back(tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(3, 4)
    np.savez_compressed(tmp_path / "a.npz", one=values, two=values.T)
    found = read_arrays(tmp_path / "a.npz")
    assert found.keys() == {"one", "two"} and np.array_equal(found["two"], values.T)
    for packed in (False, True):
        savemat(tmp_path / "a.mat", {"fixations": values}, do_compression=packed)
        assert np.array_equal(read_mat(tmp_path / "a.mat")["fixations"], values)
