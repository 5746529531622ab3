"""Check that results appear all or not at all."""

from pathlib import Path

import pytest

from sa2va.apps.output import describe_files, staged


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
    with pytest.raises(OSError, match="disk"), staged(tmp_path / "a" / "b") as scratch:
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
