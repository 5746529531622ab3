"""Check source.py: every kind of source gives the same frames on demand, and bad sources give one line."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sa2va.media.pictures import save_image
from sa2va.media.source import DEFAULT_FPS, Media, open_frames, open_media, uniform_indices

CLIP = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)


def sources(folder: Path) -> dict[str, Any]:
    for index, frame in enumerate(CLIP):
        save_image(folder / "clip" / f"{index}.png", frame)
    return {"array": CLIP, "folder": folder / "clip", "text": str(folder / "clip"), "iterator": iter(CLIP)}


@pytest.mark.parametrize("kind", ["array", "folder", "text", "iterator"])
def test_sources_agree(tmp_path: Path, kind: str) -> None:
    media = open_media(sources(tmp_path)[kind])
    assert (media.height, media.width, media.is_image, media.fps) == (8, 12, False, DEFAULT_FPS)
    frames = list(media)
    assert all(frame.flags.c_contiguous and frame.dtype == np.uint8 for frame in frames)
    assert np.array_equal(frames, CLIP)
    if kind == "iterator":
        return
    assert media.seekable and media.num_frames == 5
    assert np.array_equal(list(media), CLIP)
    assert np.array_equal(media.frame(3), CLIP[3])
    order = [4, 0, 0, 2]
    assert np.array_equal(media.frames(order), CLIP[order])
    assert media.frames([]).shape == (0, 8, 12, 3)
    assert media.times is not None and media.times.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


@pytest.mark.parametrize("kind", ["file", "pil", "array"])
def test_an_image_is_a_video_of_one_frame(tmp_path: Path, kind: str) -> None:
    save_image(tmp_path / "a.png", CLIP[0])
    source = {"file": tmp_path / "a.png", "pil": Image.fromarray(CLIP[0]), "array": CLIP[0]}[kind]
    media = open_media(source)
    assert media.is_image and media.num_frames == 1 and media.times is not None and media.times.tolist() == [0]
    assert np.array_equal(media.frame(0), CLIP[0])


def test_one_pixel_is_enough() -> None:
    assert open_media(np.zeros((1, 1, 3), np.uint8)).frame(0).shape == (1, 1, 3)


def test_an_open_media_stays_itself() -> None:
    media = open_media(CLIP, fps=7)
    assert open_media(media) is media
    assert repr(media) == "Media('array', 5 frames of 12x8, 7 fps)"


def test_an_iterator_may_draw_every_frame_into_the_same_memory() -> None:
    def camera() -> Iterator[np.ndarray]:
        buffer = np.empty_like(CLIP[0])
        for frame in CLIP:
            buffer[:] = frame
            yield buffer

    media = open_media(camera())
    assert np.array_equal(media.peek(3), CLIP[:3])
    assert np.array_equal(list(media), CLIP)


def test_an_iterator_is_read_as_it_comes() -> None:
    taken = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal taken
        for frame in itertools.cycle(CLIP):
            taken += 1
            yield frame

    media = open_media(camera())
    assert (media.num_frames, media.times, media.seekable, media.is_image) == (None, None, False, False)
    assert taken == 1
    first_three = list(itertools.islice(media, 3))
    assert taken == 3
    assert np.array_equal(first_three, CLIP[:3])
    with pytest.raises(ValueError, match="once only"):
        iter(media)
    with pytest.raises(ValueError, match="pass a file"):
        media.frame(0)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "before the first frame"),
        (["a"], "frame 0: expected uint8 .* got str"),
        ([CLIP[0].astype(float)], r"float64 values 0\.\.25\d, expected 0\.\.1"),
        ([CLIP[0], CLIP[1, :4]], "frame 1 is 12x4, the first one was 12x8"),
        ([CLIP[0], CLIP], r"frame 1: .*\(5, 8, 12, 3\)"),
        ([CLIP[0]] * 5, "more than the 4 frames"),
        ([np.zeros((20, 20, 3), np.uint8)], "20x20 is more than 100 pixels"),
    ],
)
def test_bad_iterators(frames: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(open_media(iter(frames), max_frames=4, max_pixels=100))


def make_bad_paths(folder: Path) -> None:
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("Good evening")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    (folder / "void").mkdir()
    save_image(folder / "large.png", np.zeros((40, 50, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.mp4", "no such file"),
        ("n" * 300, "cannot be read"),
        ("empty.jpg", "empty"),
        ("notes.txt", "no supported type"),
        ("broken.png", "cannot be decoded"),
        ("playlist.mp4", "no supported type"),
        ("void", "no pictures"),
        ("large.png", "50x40 is more than 1000 pixels"),
    ],
)
def test_bad_paths_are_one_line_that_names_them(tmp_path: Path, name: str, message: str) -> None:
    make_bad_paths(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        open_media(tmp_path / name, max_pixels=1000)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


def test_a_file_can_be_too_large(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", CLIP[0])
    with pytest.raises(ValueError, match="bytes are more than the 100 allowed"):
        open_media(tmp_path / "a.png", max_bytes=100)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "NoneType"),
        (b"bytes", "bytes"),
        ([CLIP[0], CLIP[1]], "Request"),
        (CLIP.astype(np.float32), r"float32 values 0\.\.255, expected 0\.\.1"),
        (CLIP[0, 0, 0], r"\(3,\)"),
        (CLIP[..., :2], r"\(5, 8, 12, 2\)"),
        (CLIP[:0], "0 frames"),
        (CLIP[:, :0], "12x0"),
        (np.zeros((7, 2, 2, 3), np.uint8), "7 frames, expected 1..6"),
        (np.zeros((50, 50, 3), np.uint8), "50x50"),
        (Image.new("RGB", (50, 60)), "50x60"),
        (Image.new("F", (5, 6), 1e6), "floating point"),
    ],
)
def test_bad_values_are_one_line(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_media(source, max_pixels=1000, max_frames=6)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_bad_rates(fps: float) -> None:
    with pytest.raises(ValueError, match="fps"):
        open_media(CLIP, fps=fps)


@pytest.mark.parametrize("index", [-1, 5])
def test_no_such_frame(index: int) -> None:
    with pytest.raises(ValueError, match=rf"no frame {index}, only 0..4"):
        open_media(CLIP).frame(index)


def test_any_reader_makes_a_media() -> None:
    class Shades:
        """Frames made on demand, as many as anyone likes."""

        name, height, width, fps, num_frames = "shades", 2, 3, 1.0, 200
        times = np.arange(200.0)

        def read(self, indices: Any) -> Iterator[np.ndarray]:
            for index in indices:
                yield np.full((2, 3, 3), index, np.uint8)

    assert Media(Shades()).frames([7, 3])[:, 0, 0, 0].tolist() == [7, 3]


@given(num_frames=st.integers(1, 5000), k=st.integers(1, 200))
def test_uniform_indices(num_frames: int, k: int) -> None:
    indices = uniform_indices(num_frames, k)
    assert indices == sorted(set(indices))
    assert len(indices) == min(k, num_frames)
    assert indices[0] == 0
    if k > 1:
        assert indices[-1] == num_frames - 1
        gaps = np.diff(indices)
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


@given(num_frames=st.integers(1, 500), k=st.integers(1, 60), shift=st.floats(-0.5, 0.5))
def test_shifted_indices_are_as_many_and_distinct_and_lie_in_the_clip(num_frames: int, k: int, shift: float) -> None:
    indices = uniform_indices(num_frames, k, shift)
    assert len(indices) == min(k, num_frames) and indices == sorted(set(indices))
    assert indices[0] >= 0 and indices[-1] < num_frames
    if num_frames > k > 1:
        moved = np.array(indices) - uniform_indices(num_frames, k)
        assert np.abs(moved).max() <= 0.5 * (num_frames - 1) / (k - 1) + 1


def test_uniform_indices_by_hand() -> None:
    assert uniform_indices(10, 4) == [0, 3, 6, 9]
    assert uniform_indices(11, 4) == [0, 3, 6, 10]
    assert uniform_indices(3, 5) == [0, 1, 2]
    assert uniform_indices(100, 1) == [0]
    assert uniform_indices(0, 5) == []


def test_an_empty_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_image("frame.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="media: the name is empty"):
        open_media("")
    assert open_media(".").num_frames == 1


def test_media_know_their_files(tmp_path: Path) -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    for name in ("frame10.png", "frame2.png"):
        save_image(tmp_path / name, frame)
    np.save(tmp_path / "frames.npy", frame[None])
    folder, file = open_media(tmp_path), open_media(str(tmp_path / "frame2.png"))
    assert folder.files == (tmp_path, tmp_path / "frame2.png", tmp_path / "frame10.png")
    assert folder.frame_names(2) == ["frame2.png", "frame10.png"]
    assert file.files == (tmp_path / "frame2.png",) and file.frame_names(3) == ["00000.png", "00001.png", "00002.png"]
    assert open_media(Image.open(tmp_path / "frame2.png")).files == file.files
    assert open_media(np.load(tmp_path / "frames.npy", mmap_mode="r")).files == (tmp_path / "frames.npy",)
    assert open_media(frame).files == open_media(iter([frame])).files == ()


def test_listed_pictures_are_a_clip_in_their_order(tmp_path: Path) -> None:
    sources(tmp_path)
    files = [tmp_path / "clip" / f"{index}.png" for index in (4, 0, 2)]
    media = open_frames(files, "some frames")
    assert (media.name, media.num_frames, media.files) == ("some frames", 3, tuple(files))
    assert np.array_equal(list(media), CLIP[[4, 0, 2]])
    assert media.frame_names(2) == ["4.png", "0.png"]
    save_image(files[1], CLIP[0, :4])
    with pytest.raises(ValueError, match="12x4, but 4.png is 12x8"):
        open_frames(files, "some frames")
