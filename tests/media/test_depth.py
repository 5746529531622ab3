"""Check depth.py: pictures with more than eight bits keep their brightness, or a warning names the assumed range."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from sa2va.media import depth
from sa2va.media.source import open_media

GRAY = (np.arange(20 * 30).reshape(20, 30) % 256).astype(np.uint8)
SHADES = np.repeat(GRAY[..., None], 3, axis=2)
COLORS = np.stack([GRAY, GRAY[::-1], 255 - GRAY], -1)


def tiff(path: Path, values: np.ndarray, **tags: float | int) -> Path:
    image, info = Image.fromarray(values), TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[{"largest": 281, "largest_number": 341}[name]] = value
    image.save(path, tiffinfo=info)
    return path


def silently(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return open_media(path).frame(0)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_few_bits_in_sixteen(tmp_path: Path, bits: int) -> None:
    values = np.rint(GRAY * ((2**bits - 1) / 255)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=rf"a\.png: 16-bit integers without .*; 0\.\.{2**bits - 1} is assumed"):
        assert np.array_equal(open_media(tmp_path / "a.png").frame(0), SHADES)
    assert np.array_equal(silently(tiff(tmp_path / "a.tif", values, largest=2**bits - 1)), SHADES)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_few_bits_in_sixteen_of_each_color(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = np.dstack([COLORS, np.full_like(GRAY, 255)])[..., :channels]
    values = np.rint(pixels * (4095 / 255)).astype(np.uint16)
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), values[..., [2, 1, 0, 3][:channels]])
    with pytest.warns(UserWarning, match=r"16-bit integers without .* 0\.\.4095 is assumed"):
        assert np.array_equal(open_media(path).frame(0), COLORS)


def test_all_sixteen_bits_stay_as_they_were(tmp_path: Path) -> None:
    values = (np.arange(600, dtype=np.uint16) * 109).reshape(20, 30)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(silently(tmp_path / "a.png")[..., 0], values >> 8)
    wide = np.stack([values, values[::-1], values[:, ::-1]], -1)
    cv2.imwrite(str(tmp_path / "b.png"), wide[..., ::-1])
    assert np.array_equal(silently(tmp_path / "b.png"), wide >> 8)
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "black.png")
    assert not silently(tmp_path / "black.png").any()


def test_twelve_bits_that_the_file_states(tmp_path: Path) -> None:
    values = np.rint(GRAY * (4095 / 255)).astype(np.uint16).reshape(-1, 2)
    packed = np.stack([values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255], -1)
    path = tiff(tmp_path / "a.tif", GRAY.repeat(2, 1)[:, :45])  # as many bytes
    with Image.open(path) as image:
        offset = image.tag_v2[273][0]
    content = bytearray(path.read_bytes())
    for tag, old, new in ((256, 45, 30), (258, 8, 12)):
        place = content.index(tag.to_bytes(2, "little"), 8)
        assert content[place + 8] == old
        content[place + 8] = new
    content[offset : offset + 900] = packed.astype(np.uint8).tobytes()
    path.write_bytes(content)
    assert np.array_equal(silently(path), SHADES)


@pytest.mark.parametrize("top", [255, 65535])
def test_integers_of_32_bits(tmp_path: Path, top: int) -> None:
    values = GRAY.astype(np.int32) * (top // 255)
    assert np.array_equal(silently(tiff(tmp_path / "stated.tif", values, largest=top)), SHADES)
    with pytest.warns(UserWarning, match=rf"32-bit integers without .*; 0\.\.{top} is assumed"):
        assert np.array_equal(open_media(tiff(tmp_path / "a.tif", values)).frame(0), SHADES)


def test_negative_integers_are_black(tmp_path: Path) -> None:
    values = GRAY.astype(np.int32)
    values[0] = -5
    with pytest.warns(UserWarning, match="255 is assumed"):
        frame = open_media(tiff(tmp_path / "a.tif", values)).frame(0)
    assert not frame[0].any() and np.array_equal(frame[1:], SHADES[1:])


@pytest.mark.parametrize(("top", "said"), [(1.0, "1"), (255.0, "255"), (65535.0, "65535")])
def test_floating_point(tmp_path: Path, top: float, said: str) -> None:
    values = (GRAY / 255 * top).astype(np.float32)
    assert np.array_equal(silently(tiff(tmp_path / "stated.tif", values, largest_number=top)), SHADES)
    values[3, 4] = np.nan
    with pytest.warns(UserWarning, match=rf"floating point numbers without .*; 0\.\.{said} is assumed"):
        frame = open_media(tiff(tmp_path / "a.tif", values)).frame(0)
    expected = SHADES.copy()
    expected[3, 4] = 0
    assert np.array_equal(frame, expected)


def test_a_range_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.tif: .*floating point numbers up to 1e\+06"):
        open_media(tiff(tmp_path / "a.tif", np.full((4, 5), 1e6, np.float32)))


def test_netpbm_states_its_range(tmp_path: Path) -> None:
    values = np.rint(GRAY * (4095 / 255)).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5\n30 20\n4095\n" + values.tobytes())
    assert np.abs(silently(tmp_path / "a.pgm").astype(int) - SHADES).max() <= 1


def test_the_range_of_an_array() -> None:
    assert depth.to_eight_bits(np.array([0, 40, 100, 101], np.uint16), "a", 100).tolist() == [0, 102, 255, 255]


def test_a_folder_is_remarked_on_once(tmp_path: Path) -> None:
    for index in range(4):
        Image.fromarray(np.full((4, 5), 1000 + 800 * index, np.uint16)).save(tmp_path / f"{index}.png")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        list(open_media(tmp_path))
    assert sorted(str(item.message).split("; ")[1] for item in said) == ["0..1023 is assumed", "0..4095 is assumed"]
    assert all(str(item.message).startswith(f"{tmp_path}: 16-bit integers") for item in said)


@pytest.mark.parametrize("alpha", [65535, 4095])
def test_twelve_bits_beside_an_alpha_of_its_own_range(tmp_path: Path, alpha: int) -> None:
    values = np.full((8, 8, 4), alpha, np.uint16)
    values[..., :3] = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8, 1)
    cv2.imwrite(str(tmp_path / "a.png"), values)
    with pytest.warns(UserWarning, match=r"0\.\.4095 is assumed"):
        found = open_media(tmp_path / "a.png").frame(0)
    assert np.abs(found.astype(int) - values[..., :3] * (255 / 4095)).max() <= 1


def test_floats_that_overshoot_one_a_little(tmp_path: Path) -> None:
    values = np.linspace(0, 1.02, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.warns(UserWarning, match=r"0\.\.1 is assumed"):
        found = open_media(tmp_path / "a.tif").frame(0)
    assert np.array_equal(found[..., 0], np.rint(values.clip(0, 1).astype(np.float64) * 255))
