"""Check containers.py: still pictures in boxes are read whole under any brand, not just their first tile."""

import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from sa2va.media import containers
from sa2va.media.source import open_media

pillow_heif = pytest.importorskip("pillow_heif")

SCENE = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8).repeat(32, 0).repeat(32, 1)  # (128, 128, 3)


def heic(path: Path, tile: int = 64, orientation: int = 1, picture: np.ndarray = SCENE) -> Path:
    """Write a tiled picture, as phones do. Its orientation is a property of the file beside EXIF."""
    image, exif = Image.fromarray(picture), Image.Exif()
    exif[0x0112] = orientation
    # What Image.save would call, were HEIF registered with Pillow for the whole program.
    image.encoderinfo = {"tile_size": tile, "quality": -1, "chroma": 444, "exif": exif.tobytes()}
    with path.open("wb") as file:
        pillow_heif.as_plugin._save_heif(image, file, b"")
    return path


def rebrand(path: Path, main: bytes, *others: bytes) -> Path:
    """Overwrite the brands of a file, keeping its size."""
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[:4], "big")
    brands = [main, *others, *[others[-1] if others else main] * ((size - 16) // 4 - len(others))]
    content[8:12], content[16:size] = brands[0], b"".join(brands[1 : 1 + (size - 16) // 4])
    path.write_bytes(content)
    return path


def is_scene(frame: np.ndarray, tolerance: int = 2) -> bool:
    return frame.shape == SCENE.shape and int(np.abs(frame.astype(int) - SCENE).max()) <= tolerance


@pytest.mark.parametrize("tile", [0, 32, 64])
def test_a_tiled_picture_is_read_whole(tmp_path: Path, tile: int) -> None:
    media = open_media(heic(tmp_path / "a.heic", tile))
    assert media.is_image and is_scene(media.frame(0))
    assert is_scene(open_media((tmp_path / "a.heic").read_bytes()).frame(0))


@pytest.mark.parametrize(
    "brands",
    [
        (b"heic", b"mif1"),
        (b"heix", b"mif1"),
        (b"mif1", b"heic"),
        (b"heim", b"mif1"),
        (b"isom", b"heic"),
        (b"msf1", b"heic"),
    ],
)
def test_main_and_compatible_brands_count(tmp_path: Path, brands: tuple[bytes, ...]) -> None:
    path = rebrand(heic(tmp_path / "a.mp4"), *brands)
    assert containers.kind_of(path) == "heif"
    assert is_scene(open_media(path).frame(0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone_once(tmp_path: Path, orientation: int) -> None:
    frame = open_media(heic(tmp_path / "a.heic", orientation=orientation)).frame(0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(SCENE).save(tmp_path / "a.png", exif=exif)
    assert np.abs(frame.astype(int) - open_media(tmp_path / "a.png").frame(0)).max() <= 2


def test_a_folder_of_tiled_pictures(tmp_path: Path) -> None:
    for index in range(2):
        heic(tmp_path / f"IMG_{index}.HEIC")
    media = open_media(tmp_path)
    assert (media.num_frames, media.height, media.width) == (2, 128, 128) and is_scene(media.frame(1))


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    alpha = np.full((128, 128, 1), 255, np.uint8)
    alpha[:64] = 0
    pillow_heif.from_pillow(Image.fromarray(np.dstack([SCENE, alpha]))).save(
        tmp_path / "a.heic", quality=-1, chroma=444
    )
    frame = open_media(tmp_path / "a.heic").frame(0)
    assert (frame[:64] == 255).all() and np.abs(frame[64:].astype(int) - SCENE[64:]).max() <= 2


def test_without_the_library_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = heic(tmp_path / "a.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"a\.heic: HEIC .* pip install 'sa2va\[heic\]'") as caught:
        open_media(path)
    assert "\n" not in str(caught.value)


def test_what_no_decoder_here_reads_is_refused(tmp_path: Path) -> None:
    path = heic(tmp_path / "a.avci")
    path.write_bytes(path.read_bytes().replace(b"hvc1", b"avc1").replace(b"hvcC", b"avcC"))
    with pytest.raises(ValueError, match=r"a\.avci: .* save it again as PNG or JPEG"):
        open_media(rebrand(path, b"avci", b"mif1"))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match="save it again as PNG or JPEG"):
        open_media(path)


def avif_grid(path: Path) -> Path:
    """Build a grid of four AVIF tiles by hand, since Pillow writes single pictures only."""
    tiles, config = [], b""
    for top in (0, 64):
        for left in (0, 64):
            Image.fromarray(SCENE[top : top + 64, left : left + 64]).save(
                path, "AVIF", quality=100, subsampling="4:4:4"
            )
            content = path.read_bytes()
            start = content.index(b"mdat") + 4
            tiles.append(content[start : start - 8 + int.from_bytes(content[start - 8 : start - 4], "big")])
            place = content.index(b"av1C") - 4
            config = content[place : place + int.from_bytes(content[place : place + 4], "big")]
            place = content.index(b"colr") - 4
            config += content[place : place + int.from_bytes(content[place : place + 4], "big")]

    def box(name: bytes, *parts: bytes) -> bytes:
        return struct.pack(">I4s", 8 + sum(map(len, parts)), name) + b"".join(parts)

    def full(name: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
        return box(name, struct.pack(">I", version << 24 | flags), *parts)

    def sized(side: int) -> bytes:
        return full(b"ispe", struct.pack(">II", side, side))

    grid = struct.pack(">BBBBHH", 0, 0, 1, 1, 128, 128)
    kinds = [b"av01"] * 4 + [b"grid"]
    entries = b"".join(
        full(b"infe", struct.pack(">HH4sx", number, 0, kind), version=2) for number, kind in enumerate(kinds, 1)
    )
    av1c = config[: int.from_bytes(config[:4], "big")]
    properties = box(b"ipco", av1c, config[len(av1c) :], sized(64), sized(128), full(b"pixi", b"\3\x08\x08\x08"))
    links = b"".join(struct.pack(">HB4B", number, 4, 0x81, 2, 3, 5) for number in range(1, 5))
    links += struct.pack(">HB3B", 5, 3, 4, 2, 5)
    reference = full(b"iref", box(b"dimg", struct.pack(">HH4H", 5, 4, 1, 2, 3, 4)))

    def meta(base: int) -> bytes:
        places = b""
        for number, data in enumerate([*tiles, grid], 1):
            places += struct.pack(">HHHII", number, 0, 1, base, len(data))
            base += len(data)
        return full(
            b"meta",
            full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
            full(b"pitm", struct.pack(">H", 5)),
            full(b"iloc", b"\x44\x00", struct.pack(">H", 5), places),
            full(b"iinf", struct.pack(">H", 5), entries),
            reference,
            box(b"iprp", properties, full(b"ipma", struct.pack(">I", 5), links)),
        )

    head = box(b"ftyp", b"mif1", bytes(4), b"mif1avifmiaf")
    path.write_bytes(head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", *tiles, grid))
    return path


def test_an_avif_grid_under_another_brand(tmp_path: Path) -> None:
    path = avif_grid(tmp_path / "grid.avif")
    assert containers.kind_of(path) == "avif"
    media = open_media(path)
    assert media.is_image and is_scene(media.frame(0), tolerance=12)
    Image.fromarray(SCENE).save(path, quality=100, subsampling="4:4:4")
    assert is_scene(open_media(rebrand(path, b"mif1", b"avif")).frame(0), tolerance=12)


@pytest.mark.parametrize("brand", [b"miaf", b"MA1B", b"isom"])
def test_an_avif_is_known_by_a_compatible_brand(tmp_path: Path, brand: bytes) -> None:
    path = tmp_path / "scene.avif"
    Image.fromarray(SCENE).save(path, quality=100, subsampling="4:4:4")
    content = path.read_bytes()
    path.write_bytes(content[:8] + brand + content[12:])
    assert is_scene(open_media(path).frame(0), tolerance=12)


def clip(path: Path, codec: str = "libx264") -> Path:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((128, 128, 3), 40 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("brands", [(b"isom", b"mp41"), (b"mp42", b"mif1"), (b"hevc", b"msf1"), (b"msf1", b"hevc")])
def test_a_track_is_a_video(tmp_path: Path, brands: tuple[bytes, ...]) -> None:
    path = rebrand(clip(tmp_path / "a.heics"), *brands)
    media = open_media(path)
    assert [int(frame.mean()) for frame in media] == pytest.approx([0, 40, 80, 120, 160], abs=3)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"a", "heif"),
        (b"\0\0\0\0moov" + bytes(30), "video"),
        (b"\0\0\0\x01moov" + b"\xff" * 8, "video"),
        (b"\0\0\0\x04moov" + bytes(30), "heif"),
        (bytes(2000), "heif"),
    ],
)
def test_broken_boxes_end_the_search(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(struct.pack(">I4s4s4s4s", 20, b"ftyp", b"msf1", bytes(4), b"heic") + content)
    assert containers.kind_of(path) == kind
