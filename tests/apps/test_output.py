"""Check that results appear all or not at all."""

from pathlib import Path

import pytest

from sa2va.apps.output import describe_files, require_kinds, staged


def test_files_appear_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with staged(folder) as scratch:
        assert scratch is not None
        (scratch / "masks").mkdir()
        (scratch / "masks" / "1.png").write_bytes(b"one")
        (scratch / "text.json").write_text("{}")
        assert [path for path in folder.iterdir() if not path.name.startswith(".")] == []
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == ["masks", "masks/1.png", "text.json"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"a/b: cannot be written \(disk full\)"),
        staged(tmp_path / "a" / "b") as scratch,
    ):
        assert scratch is not None
        (scratch / "half.png").write_bytes(b"ha")
        raise OSError(28, "disk full")
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "overlay.png").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), staged(tmp_path) as scratch:
        assert scratch is not None
        (scratch / "overlay.png").write_bytes(b"new")
        raise KeyboardInterrupt
    assert (tmp_path / "overlay.png").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_new_file_replaces_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "overlay.png").write_bytes(b"old")
    with staged(tmp_path) as scratch:
        assert scratch is not None
        (scratch / "overlay.png").write_bytes(b"new")
    assert (tmp_path / "overlay.png").read_bytes() == b"new"


def test_masks_of_an_earlier_longer_run_go_and_other_files_stay(tmp_path: Path) -> None:
    for name in ("mask_1/00000.png", "mask_1/00001.png", "mask_2/00000.png", "pictures/mine.png", "pictures/01.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"old")
    with staged(tmp_path) as scratch:
        assert scratch is not None
        for name in ("mask_1/00000.png", "pictures/01.png"):
            (scratch / name).parent.mkdir()
            (scratch / name).write_bytes(b"new")
    files = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "mask_1/00000.png": b"new",
        "mask_2/00000.png": b"old",
        "pictures/01.png": b"new",
        "pictures/mine.png": b"old",
    }


@pytest.mark.parametrize(("name", "taken"), [("mask_1", "mask_1/00000.png"), ("z.json/below", "z.json")])
def test_a_name_of_the_other_kind_is_found_before_anything_moves(tmp_path: Path, name: str, taken: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"old")
    (tmp_path / "annotations.json").write_bytes(b"old")
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(ValueError, match=rf"{name.split('/')[0]} is a (file|folder)") as caught,
        staged(tmp_path) as out,
    ):
        assert out is not None
        (out / taken).parent.mkdir(exist_ok=True)
        (out / taken).write_bytes(b"new")
        (out / "annotations.json").write_bytes(b"new")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "annotations.json").read_bytes() == b"old" and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "shown"),
    [(OSError(28, "disk full"), ValueError), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["full", "interrupt"],
)
def test_a_move_that_fails_half_way_is_taken_back(
    error: BaseException, shown: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.json", "mask_1/00000.png", "mask_1/00001.png", "pictures/01.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"old")
    before = sorted(tmp_path.rglob("*"))
    replace = Path.replace

    def break_at_last(self: Path, target: Path) -> Path:
        if self.name == "z.json":
            monkeypatch.undo()
            raise error
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", break_at_last)
    with pytest.raises(shown), staged(tmp_path) as scratch:
        assert scratch is not None
        for name in ("a.json", "b.json", "mask_1/00000.png", "pictures/01.png", "pictures/02.png", "z.json"):
            (scratch / name).parent.mkdir(exist_ok=True)
            (scratch / name).write_bytes(b"new")
    assert sorted(tmp_path.rglob("*")) == before
    assert {path.read_bytes() for path in before if path.is_file()} == {b"old"}


def test_kinds_that_fit(tmp_path: Path) -> None:
    (tmp_path / "overlay.png").write_bytes(b"old")
    (tmp_path / "mask_1").mkdir()
    require_kinds(tmp_path, files=("overlay.png", "new.json"), folders=("mask_1", "mask_2"))
    require_kinds(None, files=("mask_1",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask_1", "overlay.png"]  # looked at, not touched


def test_no_folder_means_no_files() -> None:
    with staged(None) as scratch:
        assert scratch is None


@pytest.mark.parametrize("name", ["taken", "taken/below", "nul\0"])
def test_a_folder_that_cannot_be_is_an_error_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ValueError, match="-o "), staged(tmp_path / name):
        pytest.fail("the block must not run")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["overlay.png"], "wrote 1 file to out/: overlay.png"),
        (["a", "b", "c/d"], "wrote 3 files to out/: a, b, c/d"),
        (list("abcdefg"), "wrote 7 files to out/: a, b, c, d and 3 more"),
    ],
)
def test_the_closing_line(names: list[str], text: str) -> None:
    scratch = Path("/scratch")
    assert describe_files([scratch / name for name in names], scratch, Path("out")) == text
