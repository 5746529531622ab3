"""Read .npz and .mat archives with size limits that are checked before decompression.

Flow: .npz -> read_arrays -> evaluation/golden.py; .mat -> read_mat -> osie.py.
Source: zip members and .npy headers declare their sizes, and zip readers read no further. Compressed elements of a
    MATLAB 5 file declare none, so they are decompressed once in chunks to count their bytes.
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
MAT_HEADER, MAT_COMPRESSED = 128, 15  # bytes before the first element; type of compressed elements
CHUNK = 2**20  # bytes that are decompressed at once


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz archive.

    Raises:
        ValueError: the file is no .npz archive, or exceeds the limits.
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
            f"{path}: not an archive of arrays ({str(error).splitlines()[0]}); expected a NumPy archive, .npz"
        ) from error


def read_mat(path: Path) -> dict[str, Any]:
    """Read all variables of a MATLAB file up to version 7.

    Raises:
        ValueError: the file is not regular or exceeds the limits; scipy raises its own errors for malformed files.
    """
    content = read_data(path, "a MATLAB file up to version 7")
    _check_amount(_unpacked_bytes(content), 1)
    return loadmat(BytesIO(content), simplify_cells=True)


def _check_amount(num_bytes: int, num_members: int) -> None:
    if num_members > MAX_MEMBERS or num_bytes > MAX_DATA_BYTES:
        limits = f"expected at most {MAX_MEMBERS} members and {MAX_DATA_BYTES} bytes"
        raise ValueError(f"{num_members} members decompress to {num_bytes} bytes or more, {limits}")


def _check_array(name: str, file: IO[bytes], num_bytes: int) -> None:
    """Check that an array's header claims no more bytes than its member holds, before allocating memory."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"{name}: array format version {version}, expected 1.0 or 2.0")
    shape, _, dtype = readers[version](file)
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > num_bytes:
        raise ValueError(f"{name}: the header claims {wanted} bytes, expected at most the {num_bytes} of the member")


def _unpacked_bytes(content: bytes) -> int:
    """Count the decompressed bytes of a MATLAB 5 file's elements, stopping at the limit."""
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
            total += len(unpacker.decompress(body, CHUNK))
            body = unpacker.unconsumed_tail
    return total
