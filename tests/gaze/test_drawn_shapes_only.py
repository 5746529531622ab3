"""Check that the embedded model says once that a picture lies outside what it has learned."""

import io
from pathlib import Path

import pytest
from PIL import Image

from sa2va import load_gaze
from sa2va.apps import cli
from sa2va.inference.embedded import OutOfWorldWarning


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture that is not drawn, in a process that has said nothing yet."""
    monkeypatch.setattr("sa2va.inference.embedded._warned", False)
    Image.effect_noise((60, 40), 50).convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_python_warns_once_of_pictures_that_are_not_drawn(photo: Path) -> None:
    gaze = load_gaze("tiny", device="cpu")
    with pytest.warns(OutOfWorldWarning, match="--model ByteDance/Sa2VA-4B") as caught:
        gaze.start(str(photo), num_samples=1)
        gaze.start(str(photo), num_samples=1)
    assert len(caught) == 1


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("words", [["predict", "PHOTO", "a dog"], ["stream", "PHOTO"]])
def test_commands_warn_in_one_line(
    words: list[str], quiet: bool, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("circle\n"))
    words = [str(photo) if word == "PHOTO" else word for word in words]
    assert cli.main(["gaze", *words, *["--quiet"] * quiet]) == 0
    assert capsys.readouterr().err.count("--model ByteDance/Sa2VA-4B") == (not quiet)
