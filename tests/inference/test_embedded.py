"""Check that the embedded model warns once about a user's media, and never about synthetic scenes."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sa2va
from sa2va.apps import cli
from sa2va.inference.embedded import OutOfWorldWarning, drawn_scenes
from sa2va.inference.predictor import Predictor

PHOTO = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the warning, as in a new process."""
    monkeypatch.setattr("sa2va.inference.embedded._warned", False)


@pytest.fixture(scope="module")
def tiny() -> Predictor:
    return sa2va.load("tiny", device="cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("how", ["predict", "open", "track"])
def test_python_warns_once(how: str, tiny: Predictor) -> None:
    uses = {
        "predict": lambda: tiny.predict(PHOTO, "What is this?"),
        "open": lambda: tiny.open(PHOTO),
        "track": lambda: tiny.track(np.stack([PHOTO] * 2)).close(),
    }
    with pytest.warns(OutOfWorldWarning, match="--model ByteDance/Sa2VA-4B") as caught:
        uses[how]()
        uses[how]()
    assert len(caught) == 1


def test_nothing_is_said_of_other_models_and_of_drawn_scenes(
    tiny: Predictor, small_benchmarks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutOfWorldWarning)
        Predictor(tiny.model, tiny.processor).open(PHOTO)
        with drawn_scenes():
            tiny.open(PHOTO)
    assert cli.main(["eval", "tiny", "--benchmarks", "squares", "--items", "1"]) == 0
    assert "the embedded model" not in capsys.readouterr().err
    with pytest.warns(OutOfWorldWarning):
        tiny.open(PHOTO)


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("command", ["segment", "caption", "chat", "track"])
def test_commands_say_it_in_one_line(
    command: str, quiet: bool, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    media = photo
    if command == "track":
        media = photo.parent / "clip.gif"
        Image.fromarray(PHOTO).save(media, save_all=True, append_images=[Image.fromarray(255 - PHOTO)])
    monkeypatch.setattr("sys.stdin", open(photo.parent / "asked.txt", "w+"))
    sys.stdin.write("circle\n")
    sys.stdin.seek(0)
    more = {"segment": ["a dog"], "track": ["a dog", "-o", str(photo.parent / "out")]}
    words = [command, str(media), *more.get(command, []), *["--quiet"] * quiet]
    assert cli.main(words) == 0
    remarks = capsys.readouterr().err
    assert remarks.count("--model ByteDance/Sa2VA-4B") == (not quiet)
    assert quiet or any(line.startswith("sa2va: the embedded model was trained on") for line in remarks.splitlines())
