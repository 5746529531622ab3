"""Check pictures.py: every mode and format becomes upright RGB, and damage becomes one line."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sa2va.files.atomic import whole_file
from sa2va.media import pictures
from sa2va.media.source import open_media

CAP = 10_000


def gradient(height: int = 20, width: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 10, columns * 8, 255 - rows * 5], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif"])
def test_saved_pictures_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"picture{suffix}"
    pictures.save_image(path, gradient())
    frame = pictures.read_picture(path, CAP)
    assert frame.shape == (20, 30, 3) and frame.dtype == np.uint8
    tolerance = 0 if suffix == ".png" else 6
    assert np.abs(frame.astype(int) - gradient()).mean() <= tolerance
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_masks_are_saved_as_0_and_255(tmp_path: Path) -> None:
    mask = gradient()[..., 0] > 90
    pictures.save_image(tmp_path / "mask.png", mask)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), mask * 255)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("a.tif", gradient(), ".png"),
        ("a.png", gradient().astype(float), "float64"),
        ("a.png", gradient()[..., :2], r"\(20, 30, 2\)"),
        ("a.png", np.zeros((0, 3, 3), np.uint8), r"\(0, 3, 3\)"),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pictures.save_image(tmp_path / name, array)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.png"
    pictures.save_image(path, gradient())
    before = path.read_bytes()
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_modes_become_rgb() -> None:
    rgb = gradient()
    gray = rgb[..., 0]
    gray_rgb = np.repeat(gray[..., None], 3, -1)
    image = Image.fromarray(rgb)
    assert np.array_equal(pictures.to_rgb(image), rgb)
    assert np.array_equal(pictures.to_rgb(Image.fromarray(gray)), gray_rgb)
    assert np.array_equal(pictures.to_rgb(Image.fromarray(gray.astype(np.uint16) * 257)), gray_rgb)
    assert np.array_equal(pictures.to_rgb(Image.fromarray(gray.astype(np.int32) * 257)), gray_rgb)
    assert np.array_equal(pictures.to_rgb(Image.fromarray(gray > 90)), np.repeat((gray > 90)[..., None], 3, -1) * 255)
    assert pictures.to_rgb(image.convert("CMYK")).shape == rgb.shape
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.array_equal(pictures.to_rgb(palette), np.asarray(palette.convert("RGB")))


def test_transparent_parts_become_white() -> None:
    alpha = np.zeros((20, 30), np.uint8)
    alpha[:, 15:] = 255
    image = Image.fromarray(np.dstack([gradient(), alpha]))
    frame = pictures.to_rgb(image)
    assert (frame[:, :15] == 255).all()
    assert np.array_equal(frame[:, 15:], gradient()[:, 15:])
    gray_alpha = Image.merge("LA", (Image.fromarray(gradient()[..., 0]), Image.fromarray(alpha)))
    assert (pictures.to_rgb(gray_alpha)[:, :15] == 255).all()
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = 0
    assert pictures.to_rgb(palette).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_16_bit_png_keeps_its_high_byte(tmp_path: Path) -> None:
    deep = (np.arange(600, dtype=np.uint16) * 100).reshape(20, 30)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(pictures.read_picture(tmp_path / "deep.png", CAP)[..., 1], deep >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(gradient()).save(path, exif=exif)
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    frame = open_media(path).frame(0)
    assert np.array_equal(frame, undo[orientation](gradient()))
    assert open_media(tmp_path).height == frame.shape[0]


def test_folder_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100):
        pictures.save_image(tmp_path / f"frame{number}.png", np.full((4, 6, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden.png").write_bytes(b"not a frame")
    media = open_media(tmp_path, fps=10)
    assert [int(frame[0, 0, 0]) for frame in media] == [1, 9, 10, 100]
    assert (media.num_frames, media.height, media.width, media.is_image) == (4, 4, 6, False)
    assert media.times is not None and media.times.tolist() == pytest.approx([0, 0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="4 pictures are more than the 3"):
        open_media(tmp_path, max_frames=3)


def test_folder_of_two_sizes_names_the_file(tmp_path: Path) -> None:
    pictures.save_image(tmp_path / "a.png", gradient())
    pictures.save_image(tmp_path / "b.png", gradient(20, 31))
    with pytest.raises(ValueError, match=r"b\.png: 31x20, but a\.png is 30x20"):
        open_media(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("number", [0, 2])
def test_a_damaged_picture_of_a_folder_is_named(tmp_path: Path, suffix: str, number: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    for index in range(3):
        pictures.save_image(tmp_path / f"{index}{suffix}", picture)
    damaged = tmp_path / f"{number}{suffix}"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    with pytest.raises(ValueError, match="save it again as PNG or JPEG") as caught:
        list(open_media(tmp_path))
    assert str(caught.value).startswith(f"{damaged}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animations_are_videos(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    frames = [Image.fromarray(np.full((10, 12, 3), shade, np.uint8)) for shade in (0, 120, 240)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 200, 60], lossless=True)
    media = open_media(path)
    assert (media.num_frames, media.height, media.width) == (3, 10, 12)
    assert media.times is not None and media.times.tolist() == pytest.approx([0, 0.04, 0.24])
    assert media.fps == pytest.approx(10)
    shades = [int(frame[5, 5, 0]) for frame in media]
    assert shades == pytest.approx([0, 120, 240], abs=2)
    assert [int(frame[5, 5, 0]) for frame in media.frames([2, 0, 1, 2])] == [shades[i] for i in (2, 0, 1, 2)]
    with pytest.raises(ValueError, match="more than the 2 frames"):
        open_media(path, max_frames=2)
    frames[0].save(path)
    assert open_media(path).is_image


def test_gif_frames_build_on_each_other(tmp_path: Path) -> None:
    base, patch = Image.new("RGBA", (8, 8), (200, 0, 0, 255)), Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    patch.paste((0, 0, 200, 255), (0, 0, 4, 8))
    base.save(tmp_path / "a.gif", save_all=True, append_images=[patch], duration=50, disposal=1)
    second = open_media(tmp_path / "a.gif").frame(1)
    assert second[4, 1].tolist() == [0, 0, 200]
    assert second[4, 6].tolist() == [200, 0, 0]


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(np.roll(gradient(), step, 1)) for step in range(3)]
    frames[0].save(buffer, kind, save_all=kind == "GIF", append_images=frames[1:])
    return buffer.getvalue()


FILES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF")}


@settings(max_examples=120, deadline=None)
@given(kind=st.sampled_from(sorted(FILES)), data=st.data())
def test_damage_is_a_picture_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind.lower()}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        media = open_media(path, max_pixels=CAP)
    except ValueError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert media.height * media.width <= CAP
        assert sum(1 for _ in media) == media.num_frames
