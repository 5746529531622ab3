"""Read archives of arrays, NumPy's and MATLAB's, within bounds that are known before anything is unpacked.

Flow: .npz -> read_arrays -> evaluation/golden.py; .mat -> read_mat -> osie.py.
Source: headers of zip members and of .npy files say how much they will be, and zip readers stop there; a compressed
    element of a MATLAB 5 file says nothing, so that it is unpacked once in pieces, and counted.
"""

import math
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from sa2va.files.read_limits import MAX_DATA_BYTES
from sa2va.gaze.datasets.records import read_data

MAX_MEMBERS = 64
MAT_HEADER, MAT_COMPRESSED = 128, 15  # bytes before the first element; the type of one that is compressed
PIECE = 2**20  # bytes that are unpacked at once


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz archive.

    Raises:
        ValueError: it is no such archive, or holds more than fits the bounds.
    """
    content = read_data(path, "a NumPy archive, .npz")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.infolist()
            _check_amount(sum(member.file_size for member in members), len(members))
            for member in members:
                with archive.open(member) as file:
                    _check_array(member.filename, file, member.file_size)
        with np.load(BytesIO(content)) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: no archive of arrays ({str(error).splitlines()[0]}); expected a NumPy archive, .npz"
        ) from error


def read_mat(path: Path) -> dict[str, Any]:
    """Read all variables of a MATLAB file up to version 7.

    Raises:
        ValueError: it is not regular, or holds more than fits the bounds; what else is wrong ends as in scipy.
    """
    content = read_data(path, "a MATLAB file up to version 7")
    _check_amount(_unpacked_bytes(content), 1)
    return loadmat(BytesIO(content), simplify_cells=True)


def _check_amount(num_bytes: int, num_members: int) -> None:
    if num_members > MAX_MEMBERS or num_bytes > MAX_DATA_BYTES:
        limits = f"expected at most {MAX_MEMBERS} and {MAX_DATA_BYTES}"
        raise ValueError(f"{num_members} parts unpack to {num_bytes} bytes or more, {limits}")


def _check_array(name: str, file: IO[bytes], num_bytes: int) -> None:
    """See that the array of a member is as large as its header says, before memory is taken for it."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"{name}: arrays of version {version}, expected 1.0 or 2.0")
    shape, _, dtype = readers[version](file)
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > num_bytes:
        raise ValueError(f"{name}: its header claims {wanted} bytes, but there are {num_bytes}")


def _unpacked_bytes(content: bytes) -> int:
    """Count what the elements of a MATLAB 5 file unpack to; one that goes beyond the bound is not unpacked further."""
    total, place = 0, MAT_HEADER
    order = ">" if content[MAT_HEADER - 2 : MAT_HEADER] == b"MI" else "<"
    while place + 8 <= len(content) and total <= MAX_DATA_BYTES:
        kind, size = struct.unpack_from(f"{order}II", content, place)
        body = content[place + 8 : place + 8 + size]
        place += 8 + size
        if kind != MAT_COMPRESSED:
            total += len(body)
            continue
        unpacker = zlib.decompressobj()
        while body and total <= MAX_DATA_BYTES:
            total += len(unpacker.decompress(body, PIECE))
            body = unpacker.unconsumed_tail
    return total
