"""Check manifest.py: which files of a folder count as ours."""

from pathlib import Path

import pytest

from sa2va.files.manifest import MANIFEST, Manifest


def test_a_file_is_ours_as_long_as_it_is_as_we_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"ours")
    (tmp_path / "b.png").write_bytes(b"mine")
    assert not Manifest.read(tmp_path).owns("a.png")
    Manifest.read(tmp_path).with_files(tmp_path, ["a.png"]).write()
    known = Manifest.read(tmp_path)
    assert list(known) == ["a.png"] and known.owns("a.png") and not known.owns("b.png")
    (tmp_path / "a.png").rename(tmp_path / "c.png")
    assert not known.owns("a.png")
    (tmp_path / "a.png").symlink_to(tmp_path / "c.png")
    assert not known.owns("a.png")
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").write_bytes(b"ours, painted over")
    assert not known.owns("a.png")
    known.without(["a.png"]).write()
    assert not (tmp_path / MANIFEST).exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"files": {"a.png": 3}}', '{"files": []}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"\.sa2va\.json: cannot be read as the list of files") as caught:
        Manifest.read(tmp_path)
    assert "\n" not in str(caught.value)
