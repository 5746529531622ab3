"""List pictures and clips of a folder, a glob, a list file or an object store, and open them.

Flow: SOURCE of the command -> find_source -> Source: names -> plan.py; Store.open(name) -> Media -> worker.py.
Source: pyarrow.fs (https://arrow.apache.org/docs/python/filesystems.html) for local files, S3, Google Cloud Storage,
    Azure and HDFS.
"""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sa2va.extras import needs
from sa2va.files.read_limits import MAX_BYTES, MAX_DATA_BYTES, read_bounded
from sa2va.media.pictures import SUFFIXES as PICTURE_SUFFIXES
from sa2va.media.source import Media, open_media

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SUFFIXES = PICTURE_SUFFIXES.union(".mp4 .mov .m4v .mkv .webm .avi .mpg .mpeg .ts".split())
LIST_SUFFIXES = (".txt", ".list")
COPY_BYTES = 2**22  # per read of an object that is copied to this machine
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Store:
    """A folder of pictures and clips, on this machine or in an object store.

    Attributes:
        filesystem: holds the folder.
        root: path of the folder within it; "" is the whole filesystem.
    """

    filesystem: "FileSystem"
    root: str

    def open(self, name: str) -> Media:
        """Open a picture or clip; an object of a store is copied to a temporary file while the Media lives.

        Args:
            name: path below the root; or, from a list file, an absolute path or a URI.

        Raises:
            ValueError: it is missing, damaged or too large; the message calls it `name`.
        """
        is_absolute = "://" in name or name.startswith("/")
        filesystem, path = locate(name) if is_absolute else (self.filesystem, _join(self.root, name))
        if filesystem.type_name == "local":
            with _naming(path, name):
                return open_media(path)
        folder = Path(tempfile.mkdtemp(prefix="sa2va-"))
        try:
            copy = folder / f"object{PurePosixPath(name).suffix}"
            with _naming(path, name):
                _download(filesystem, path, copy)
            with _naming(str(copy), name):
                media = open_media(copy)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(media, shutil.rmtree, folder, ignore_errors=True)
        return media


@dataclass(frozen=True)
class Source:
    """Pictures and clips of a run.

    Attributes:
        name: of the source, the same in every working folder.
        store: opens them.
        list_names: returns their names, sorted. It costs a request per thousand objects of a store.
    """

    name: str
    store: Store
    list_names: Callable[[], list[str]]


def find_source(source: str) -> Source:
    """Find what SOURCE of the command is, without listing it.

    Args:
        source: a folder (searched recursively), a glob such as "photos/**/cat*", or a URI of either: of these, files
            with the suffix of a picture or clip count. Or a list file (.txt, .list) with one path or URI a line,
            relative to its folder. Or one media file.

    Raises:
        ValueError: there is no such place, or it cannot be read. `list_names` raises it, too, if nothing is there.
    """
    with needs("bulk"):
        from pyarrow.fs import FileType
    shown = show_uri(source)
    plain, mark, query = source.partition("?") if "://" in source else (source, "", "")
    if _WILD.search(plain) and ("://" in plain or not os.path.exists(plain)):
        parts = plain.split("/")
        fixed = next(place for place, part in enumerate(parts) if _WILD.search(part))
        store = Store(*locate(("/".join(parts[:fixed]) or ("/" if fixed else ".")) + mark + query))
        return _source(store, shown, lambda: _glob(store, parts[fixed:], shown))
    filesystem, path = locate(source)
    with _naming(path, shown):
        kind = filesystem.get_file_info(path).type
    if kind == FileType.NotFound:
        raise ValueError(f"{shown}: there is no such file or folder; give a folder, a glob, a list file or a URI")
    if kind == FileType.Directory:
        store = Store(filesystem, path)
        return _source(store, shown, lambda: _walk(store, shown))
    store, name = Store(filesystem, path.rpartition("/")[0]), PurePosixPath(path).name
    if PurePosixPath(path).suffix.lower() in LIST_SUFFIXES:
        return _source(store, shown, lambda: _read_list(filesystem, path, shown))
    return _source(store, shown, lambda: [name])


def _source(store: Store, shown: str, list_names: Callable[[], list[str]]) -> Source:
    def list_some() -> list[str]:
        if not (names := list_names()):
            raise ValueError(f"{shown}: holds no pictures or clips; give a folder, a glob, a list file or a URI")
        return names

    return Source(shown if "://" in shown else os.path.abspath(shown), store, list_some)


def show_uri(text: str) -> str:
    """Return a path or URI without user, password and query, which may hold keys."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@lru_cache(maxsize=64)  # a new client of an object store costs a connection
def locate(text: str) -> "tuple[FileSystem, str]":
    """Return the filesystem of a path or URI, and the path within it.

    Raises:
        ValueError: the scheme is unknown, or pyarrow is not installed.
    """
    with needs("bulk"):
        from pyarrow.fs import FileSystem, LocalFileSystem
    if "://" not in text:
        return LocalFileSystem(), os.path.abspath(text)
    with _naming(text, show_uri(text)):
        filesystem, path = FileSystem.from_uri(text)
    return filesystem, path


def _glob(store: Store, pattern: Sequence[str], shown: str) -> list[str]:
    """List the files that a pattern matches; `**` stands for any number of folders."""
    return [name for name in _walk(store, shown) if _matches(name.split("/"), pattern)]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _walk(store: Store, shown: str) -> list[str]:
    """Return the names of the pictures and clips below a folder, sorted, without hidden files and folders."""
    from pyarrow.fs import FileSelector, FileType

    start = len(_join(store.root, ""))
    with _naming(store.root, shown):
        infos = store.filesystem.get_file_info(FileSelector(store.root, recursive=True, allow_not_found=True))
        names = [info.path[start:] for info in infos if info.type == FileType.File]
    public = (name for name in names if not any(part.startswith(".") for part in name.split("/")))
    return sorted(name for name in public if PurePosixPath(name).suffix.lower() in SUFFIXES)


def _read_list(filesystem: "FileSystem", path: str, shown: str) -> list[str]:
    if filesystem.type_name == "local":
        content = read_bounded(path, MAX_DATA_BYTES)
    else:
        with _naming(path, shown), filesystem.open_input_stream(path) as stream:
            content = stream.read(MAX_DATA_BYTES + 1)
        if len(content) > MAX_DATA_BYTES:
            raise ValueError(f"{shown}: more than the {MAX_DATA_BYTES} bytes allowed in a list; divide it")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeError:
        raise ValueError(f"{shown}: is not a text in UTF-8; expected one path or URI a line") from None
    return sorted({line.strip() for line in lines} - {""})


def _download(filesystem: "FileSystem", path: str, copy: Path) -> None:
    """Copy an object to this machine; its size is not asked for first, which would be a request of its own."""
    try:
        stream = filesystem.open_input_stream(path, compression=None)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    num_bytes = 0
    with stream, copy.open("wb") as file:
        while piece := stream.read(COPY_BYTES):
            num_bytes += len(piece)
            if num_bytes > MAX_BYTES:
                raise ValueError(f"{path}: more than the {MAX_BYTES} bytes allowed")
            file.write(piece)


@contextmanager
def _naming(path: str, name: str) -> Generator[None]:
    """Turn an error about a path into one line that names it as the user does."""
    try:
        yield
    except UnicodeError:
        raise ValueError(f"{name}: the name of a file is not UTF-8; rename it") from None
    except (ValueError, OSError) as error:
        text = " ".join(str(error).replace(path, name).split())
        raise ValueError(text if name in text else f"{name}: cannot be read ({text})") from None


def _join(root: str, name: str) -> str:
    return f"{root.rstrip('/')}/{name}" if root else name
