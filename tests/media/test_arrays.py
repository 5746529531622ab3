"""Check arrays.py: unambiguous arrays, tensors and bytes are read, others refused in one line."""

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sa2va.media.pictures import save_image
from sa2va.media.source import open_media
from sa2va.media.writer import VideoWriter

CLIP = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)
PICTURE, GRAY = CLIP[0], CLIP[0, ..., 0]
ALPHA = np.where(np.arange(12) < 6, 0, 255).astype(np.uint8)[None, :, None].repeat(8, 0)  # (8, 12, 1)
ON_WHITE = np.where(ALPHA == 0, 255, PICTURE).astype(np.uint8)


def first(array: np.ndarray) -> np.ndarray:
    """Move the channels to the front of each frame."""
    return np.moveaxis(array, -1, -3)


def gray(array: np.ndarray) -> np.ndarray:
    return np.repeat(array[..., None], 3, axis=-1)


PLAIN: dict[str, tuple[Any, np.ndarray]] = {
    "uint8 HWC": (PICTURE, PICTURE),
    "uint8 CHW": (first(PICTURE), PICTURE),
    "uint8 THWC": (CLIP, CLIP),
    "uint8 TCHW": (first(CLIP), CLIP),
    "uint8 HW": (GRAY, gray(GRAY)),
    "uint8 HW1": (GRAY[..., None], gray(GRAY)),
    "uint8 1HW": (GRAY[None], gray(GRAY)),
    "uint8 T1HW": (first(CLIP[..., :1]), gray(CLIP[..., 0])),
    "RGBA": (np.dstack([PICTURE, ALPHA]), ON_WHITE),
    "RGBA CHW": (first(np.dstack([PICTURE, ALPHA])), ON_WHITE),
    "float64": (PICTURE / 255, PICTURE),
    "float32 CHW": (first(PICTURE).astype(np.float32) / 255, PICTURE),
    "float16 gray": ((GRAY > 99).astype(np.float16), gray(np.where(GRAY > 99, 255, 0).astype(np.uint8))),
    "float clip": (CLIP.astype(np.float32) / 255, CLIP),
    "tensor uint8 CHW": (torch.from_numpy(first(PICTURE).copy()), PICTURE),
    "tensor uint8 HWC": (torch.from_numpy(PICTURE), PICTURE),
    "tensor float CHW": (torch.from_numpy(first(PICTURE).copy()) / 255, PICTURE),
    "tensor float TCHW": ((torch.from_numpy(first(CLIP).copy()) / 255).requires_grad_(), CLIP),
    "tensor bfloat16": (torch.ones(3, 8, 12, dtype=torch.bfloat16), np.full((8, 12, 3), 255, np.uint8)),
    "tensor gray": (torch.from_numpy(GRAY.copy()), gray(GRAY)),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_plain_is_read(kind: str) -> None:
    source, expected = PLAIN[kind]
    frames = expected if expected.ndim == 4 else expected[None]
    media = open_media(source)
    assert (media.num_frames, media.height, media.width) == frames.shape[:3]
    assert np.array_equal(list(media), frames) and media.frame(0).flags.c_contiguous
    if expected.ndim == 3:  # as a frame of an iterator
        assert np.array_equal(list(open_media(itertools.repeat(source, 2))), [expected, expected])


def test_an_iterator_of_images() -> None:
    images = [Image.fromarray(frame) for frame in CLIP]
    assert np.array_equal(list(open_media(iter(images))), CLIP)
    with pytest.raises(ValueError, match="frame 1: 4x3 is more than 8 pixels"):
        list(open_media(iter([Image.new("L", (2, 2)), Image.new("L", (4, 3))]), max_pixels=8))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (PICTURE.astype(np.float32), r"array: float32 values 0\.\.255, expected 0\.\.1"),
        (torch.full((3, 8, 12), -0.5), r"tensor: float32 values -0\.5\.\.-0\.5, expected 0\.\.1"),
        (np.full((8, 12), np.nan), r"float64 values nan\.\.nan, expected 0\.\.1"),
        (PICTURE.astype(np.uint16), r"expected uint8 0\.\.255 or float 0\.\.1, .* got uint16 \(8, 12, 3\)"),
        (torch.from_numpy(PICTURE.astype(np.int64)), r"got int64 \(8, 12, 3\)"),
        (GRAY > 99, r"got bool \(8, 12\)"),
        (CLIP[..., 0], r"got uint8 \(5, 8, 12\)"),
        (CLIP[None], r"got uint8 \(1, 5, 8, 12, 3\)"),
        (torch.zeros(3, 5, 3), r"the channel axis is ambiguous"),
        (np.zeros((3, 5, 4), np.uint8), r"the channel axis is ambiguous"),
        (np.zeros((2, 0, 3), np.uint8), "0x2"),
        (torch.zeros(3, 200, 300), "300x200 is more than 1000 pixels"),
        (b"", "bytes: 0 of them"),
        (b"neither picture nor video", "bytes: its content is of no supported type"),
        (io.StringIO("text"), "got StringIO; pass its path"),
    ],
)
def test_what_is_not_plain_is_one_line(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_media(source, max_pixels=1000)
    assert "\n" not in str(caught.value)


def test_an_open_file_is_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", PICTURE)
    with (tmp_path / "a.png").open("rb") as file, pytest.raises(ValueError, match="or its content as bytes"):
        open_media(file)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_content_is_read_as_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    save_image(tmp_path / "a.png", PICTURE)
    with VideoWriter(tmp_path / "a.mp4", 10) as video:
        for frame in CLIP:
            video.write(frame.repeat(4, 0).repeat(4, 1))
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    for name in ("a.png", "a.mp4"):
        content = (tmp_path / name).read_bytes()
        media, expected = open_media(kind(content)), open_media(tmp_path / name)
        assert np.array_equal(list(media), list(expected)) and np.array_equal(list(media), list(expected))
        assert media.fps == expected.fps
    with pytest.raises(ValueError, match="bytes: .* expected 1..10"):
        open_media(kind(content), max_bytes=10)
    del media
    assert not list(spool.iterdir()), "nothing is left behind"


def test_an_array_is_not_copied() -> None:
    assert np.shares_memory(open_media(CLIP).frame(2), CLIP) is False  # frames() makes an array of its own
    assert np.shares_memory(next(iter(open_media(CLIP))), CLIP)


def test_floats_may_miss_the_range_by_rounding() -> None:
    array = np.array([[-1e-7, 0.5], [1.0000001, 1.0]], np.float32)
    assert open_media(array).frame(0)[..., 0].tolist() == [[0, 128], [255, 255]]


@pytest.mark.parametrize("tensor", [torch.zeros(4, 4, 3, device="meta"), torch.zeros(4, 4, 3).to_sparse()])
def test_a_tensor_without_dense_values_is_one_line(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="tensor: .*expected uint8") as caught:
        open_media(tensor)
    assert "\n" not in str(caught.value)


def test_an_iterator_of_opened_pictures_knows_their_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path in paths:
        Image.new("RGB", (4, 4)).save(path)
    media = open_media(Image.open(path) for path in paths)
    assert media.files == (paths[0],)
    assert len(list(media)) == 3 and media.files == tuple(paths)
