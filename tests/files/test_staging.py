"""Check that results appear all or not at all."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sa2va.files.claim import Claim
from sa2va.files.manifest import MANIFEST
from sa2va.files.staging import clear, staged

MASKS = Claim((r"overlay\.png", r"mask_\d+\.png"), (r"overlay\.mp4", r"mask_\d+/\d+\.png"))
CLIP = Claim(MASKS.others, MASKS.names)
ANY = Claim((r"\w+\.json", r"(mask_\d|pictures|masks)/\d+\.png"))


def write(folder: Path, files: Mapping[str, bytes], claim: Claim = MASKS, sources: Sequence[Path] = ()) -> None:
    """Run once: write files into a folder."""
    with staged(folder, claim, sources) as scratch:
        assert scratch is not None
        for name, content in files.items():
            (scratch / name).parent.mkdir(exist_ok=True)
            (scratch / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    """Read all files but the manifest."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_files_appear_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with staged(folder, ANY) as scratch:
        assert scratch is not None
        (scratch / "masks").mkdir()
        (scratch / "masks" / "1.png").write_bytes(b"one")
        (scratch / "text.json").write_text("{}")
        assert [path for path in folder.iterdir() if not path.name.startswith(".")] == []
    assert contents(folder) == {"masks/1.png": b"one", "text.json": b"{}"}
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "masks", "text.json"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    refused = pytest.raises(ValueError, match=r"a/b: cannot be written \(disk full\)")
    with refused, staged(tmp_path / "a" / "b", MASKS) as scratch:
        assert scratch is not None
        (scratch / "half.png").write_bytes(b"ha")
        raise OSError(28, "disk full")
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, {"overlay.png": b"old"})
    with pytest.raises(KeyboardInterrupt), staged(tmp_path, MASKS) as scratch:
        assert scratch is not None
        (scratch / "overlay.png").write_bytes(b"new")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"overlay.png": b"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "overlay.png"]


def test_our_own_file_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, {"overlay.png": b"old"})
    write(tmp_path, {"overlay.png": b"new"})
    assert contents(tmp_path) == {"overlay.png": b"new"}


@pytest.mark.parametrize("name", ["overlay.png", "mask_7.png"])
def test_a_file_of_the_users_is_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ValueError, match=f"{name} was not written by sa2va") as caught, staged(tmp_path, MASKS):
        pytest.fail("the block must not run")
    assert "\n" not in str(caught.value) and "choose another folder" in str(caught.value)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_file_that_was_changed_since_is_the_users(tmp_path: Path) -> None:
    write(tmp_path, {"overlay.png": b"old", "mask_1.png": b"old"})
    (tmp_path / "mask_1.png").write_bytes(b"painted over")
    with pytest.raises(ValueError, match=r"mask_1.png was not written by sa2va, or has changed since"):
        write(tmp_path, {"overlay.png": b"new"})
    assert contents(tmp_path) == {"overlay.png": b"old", "mask_1.png": b"painted over"}


def test_a_file_that_comes_while_the_run_works_is_the_users(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="overlay.png was not written by sa2va"), staged(tmp_path, MASKS) as scratch:
        assert scratch is not None
        (scratch / "overlay.png").write_bytes(b"new")
        (tmp_path / "overlay.png").write_bytes(b"mine")
    assert contents(tmp_path) == {"overlay.png": b"mine"}


def test_results_of_an_earlier_run_go_and_other_files_stay(tmp_path: Path) -> None:
    write(tmp_path, {"overlay.png": b"old", "mask_1.png": b"old", "mask_2.png": b"old"})
    write(tmp_path, {"scanpath.png": b"of another kind"}, Claim((r"scanpath\.png",)))
    write(tmp_path, {"overlay.mp4": b"old", "mask_1/00.png": b"1", "mask_1/01.png": b"2", "mask_2/00.png": b"3"}, CLIP)
    for name in ("notes.txt", "mask_1/mine.txt"):
        (tmp_path / name).write_bytes(b"mine")
    write(tmp_path, {"overlay.mp4": b"new", "mask_1/00.png": b"new"}, CLIP)
    kept = {"notes.txt": b"mine", "mask_1/mine.txt": b"mine", "scanpath.png": b"of another kind"}
    assert contents(tmp_path) == kept | {"overlay.mp4": b"new", "mask_1/00.png": b"new"}
    assert not (tmp_path / "mask_2").exists()
    write(tmp_path, {"overlay.png": b"newer"})
    assert contents(tmp_path) == kept | {"overlay.png": b"newer"}


def test_clear_leaves_what_is_not_ours(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, {"overlay.png": b"old", "mask_1.png": b"old"})
    (tmp_path / "b" / "notes.txt").write_bytes(b"mine")
    for name in ("a", "b", "missing"):
        clear(tmp_path / name, MASKS)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("link", ["same", "symlink", "hard link"])
def test_the_input_is_never_replaced(tmp_path: Path, link: str) -> None:
    out = tmp_path / "out"
    write(out, {"overlay.png": b"the input", "mask_1.png": b"old"})
    source = out / "overlay.png"
    if link == "symlink":
        source = tmp_path / "photo.png"
        source.symlink_to(out / "overlay.png")
    if link == "hard link":
        source = tmp_path / "photo.png"
        source.hardlink_to(out / "overlay.png")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="overlay.png is the input itself") as caught, staged(out, MASKS, [source]):
        pytest.fail("the block must not run")
    assert "\n" not in str(caught.value) and contents(tmp_path) == before


def test_a_result_that_would_go_may_be_the_input(tmp_path: Path) -> None:
    write(tmp_path, {"mask_1/00.png": b"the input"}, CLIP)
    with pytest.raises(ValueError, match="mask_1/00.png is the input itself"):
        write(tmp_path, {"overlay.png": b"new"}, MASKS, [tmp_path / "mask_1" / "00.png"])
    with pytest.raises(ValueError, match="mask_1 is the input itself"):
        write(tmp_path, {"overlay.mp4": b"new"}, CLIP, [tmp_path / "mask_1"])
    assert contents(tmp_path) == {"mask_1/00.png": b"the input"}


def test_a_run_that_is_killed_while_files_move_blocks_no_later_one(tmp_path: Path) -> None:
    write(tmp_path, {"overlay.png": b"old", "mask_1.png": b"old"})
    code = (
        "import os; from pathlib import Path; from sa2va.files.claim import Claim; "
        "from sa2va.files.staging import staged\n"
        "replace = Path.replace\n"
        "def die_at_last(self, target):\n"
        "    if self.name == 'overlay.png' and self.parent.name == 'new': os._exit(9)\n"
        "    return replace(self, target)\n"
        "Path.replace = die_at_last\n"
        f"with staged({str(tmp_path)!r}, Claim({MASKS.names!r})) as scratch:\n"
        "    for name in ('mask_1.png', 'overlay.png'): (scratch / name).write_bytes(b'new')\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert (tmp_path / "mask_1.png").read_bytes() == b"new"
    write(tmp_path, {"overlay.png": b"newer"})
    assert contents(tmp_path) == {"overlay.png": b"newer"}


@pytest.mark.parametrize(("name", "taken"), [("mask_1", "mask_1/00.png"), ("z.json/below", "z.json")])
def test_a_name_of_the_other_kind_is_found_before_anything_moves(tmp_path: Path, name: str, taken: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"old")
    write(tmp_path, {"annotations.json": b"old"}, Claim((r"annotations\.json",)))
    before = contents(tmp_path)
    for claim in (Claim((r"annotations\.json", r"z\.json", r"mask_\d+/\d+\.png")), Claim()):  # before, after the work
        with pytest.raises(ValueError, match=rf"{name.split('/')[0]} is a (file|folder), and a") as caught:
            write(tmp_path, {taken: b"new", "annotations.json": b"new"}, claim)
        assert "\n" not in str(caught.value) and contents(tmp_path) == before


@pytest.mark.parametrize(
    ("error", "shown"),
    [(OSError(28, "disk full"), ValueError), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["full", "interrupt"],
)
def test_a_move_that_fails_half_way_is_taken_back(
    error: BaseException, shown: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ("a.json", "mask_1/00000.png", "mask_1/00001.png", "pictures/01.png")
    write(tmp_path, dict.fromkeys(old, b"old"), ANY)
    before, record = sorted(tmp_path.rglob("*")), (tmp_path / MANIFEST).read_text()
    replace = Path.replace

    def break_at_last(self: Path, target: Path) -> Path:
        if self.name == "z.json":
            monkeypatch.undo()
            raise error
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", break_at_last)
    new = ("a.json", "b.json", "mask_1/00000.png", "mask_2/00000.png", "pictures/01.png", "pictures/02.png", "z.json")
    with pytest.raises(shown):
        write(tmp_path, dict.fromkeys(new, b"new"), ANY)
    assert sorted(tmp_path.rglob("*")) == before
    assert contents(tmp_path) == dict.fromkeys(old, b"old") and (tmp_path / MANIFEST).read_text() == record


def test_no_folder_means_no_files() -> None:
    with staged(None, MASKS) as scratch:
        assert scratch is None


@pytest.mark.parametrize("name", ["taken", "taken/below", "nul\0", ""])
def test_a_folder_that_cannot_be_is_an_error_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with (
        pytest.raises(ValueError, match=r"output folder|taken/below: cannot|nul\x00: cannot"),
        staged(name and str(tmp_path / name), MASKS),
    ):
        pytest.fail("the block must not run")
