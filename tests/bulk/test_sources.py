"""Test which files a source has, and how they are opened."""

import gc
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.bulk_files import write_media

pytest.importorskip("pyarrow")
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from sa2va.bulk.sources import Store, find_source, show_uri

ALL = ["broken.jpg", "more/p1.png", "more/p3.png", "moving.gif", "p0.png", "p2.png"]


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return write_media(tmp_path / "media")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{}", ALL),
        ("{}/", ALL),
        ("file://{}", ALL),
        ("{}/more", ["p1.png", "p3.png"]),
        ("{}/*.png", ["p0.png", "p2.png"]),
        ("{}/**/*.png", ["more/p1.png", "more/p3.png", "p0.png", "p2.png"]),
        ("{}/**", ALL),
        ("{}/m*/p[12].png", ["more/p1.png"]),
        ("{}/?[!0-1].png", ["p2.png"]),
        ("file://{}/more/*3*", ["more/p3.png"]),
        ("{}/p2.png", ["p2.png"]),
        ("{}/notes.md", ["notes.md"]),  # named, so taken
    ],
)
def test_names(media: Path, source: str, names: list[str]) -> None:
    found = find_source(source.format(media))
    listed = found.list_names()
    # A glob counts from the last folder before its first wild card.
    assert [name.removeprefix("more/") for name in listed] == [name.removeprefix("more/") for name in names]
    assert all(found.store.open(name).height == 12 for name in listed if name.endswith((".png", ".gif")))


def test_relative_sources(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(media)
    assert find_source(".").list_names() == ALL and find_source("*.png").list_names() == ["p0.png", "p2.png"]
    assert find_source("*.png").name == str(media / "*.png")  # the same run from another folder


def test_a_folder_may_have_a_bracket_in_its_name(tmp_path: Path) -> None:
    media = write_media(tmp_path / "photos [2020]")
    assert find_source(str(media)).list_names() == ALL


def test_a_list_names_files_of_anywhere(media: Path, tmp_path: Path) -> None:
    files = tmp_path / "files.txt"
    lines = ["media/p0.png", f"{media}/p2.png", f"file://{media}/more/p1.png", "", "media/p0.png"]
    files.write_text("\ufeff" + "\r\n".join(lines))
    found = find_source(str(files))
    assert found.list_names() == sorted({*lines} - {""})
    assert [found.store.open(name).width for name in found.list_names()] == [16, 16, 16]


@pytest.mark.parametrize("name", ["p0.png", "moving.gif"])
def test_an_object_store_gives_the_same_frames(media: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filesystem without paths of this machine: the object is copied, and the copy is removed with the Media."""
    copies = media.parent / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    store = Store(SubTreeFileSystem(str(media), LocalFileSystem()), "")
    opened, expected = store.open(name), find_source(str(media)).store.open(name)
    assert opened.num_frames == expected.num_frames
    assert all(np.array_equal(one, other) for one, other in zip(opened, expected, strict=True))
    assert len(os.listdir(copies)) == 1
    del opened
    gc.collect()
    assert not os.listdir(copies)


def test_an_object_store_is_walked_below_a_root(media: Path) -> None:
    from sa2va.bulk.sources import _walk

    assert _walk(Store(SubTreeFileSystem(str(media.parent), LocalFileSystem()), "media"), "shown") == ALL
    assert _walk(Store(SubTreeFileSystem(str(media), LocalFileSystem()), ""), "shown") == ALL


@pytest.mark.parametrize("through_store", [False, True])
def test_errors_call_the_file_as_the_user_does(media: Path, through_store: bool) -> None:
    store = find_source(str(media)).store
    if through_store:
        store = Store(SubTreeFileSystem(str(media), LocalFileSystem()), "")
    for name, reason in {"broken.jpg": "cannot be decoded", "gone.jpg": "there is no such file"}.items():
        with pytest.raises(ValueError, match=reason) as caught:
            store.open(name)
        assert str(caught.value).startswith(f"{name}: ") and str(media) not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{}/gone", "there is no such file or folder"),
        ("{}/*.webp", "holds no pictures or clips"),
        ("nowhere://bucket/photos", "Unrecognized filesystem type in URI: nowhere://bucket/photos"),
    ],
)
def test_no_source(media: Path, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        find_source(source.format(media)).list_names()
    assert "\n" not in str(caught.value)


def test_keys_are_not_shown() -> None:
    uri = "s3://key:secret@bucket/photos?region=eu-west-1&endpoint_override=localhost"
    assert show_uri(uri) == "s3://bucket/photos"


def test_a_picture_of_a_glob_below_the_root_folder(media: Path) -> None:
    Image.new("RGB", (5, 4)).save(media / "q.png")
    assert find_source(f"{media}/q*").list_names() == ["q.png"]
