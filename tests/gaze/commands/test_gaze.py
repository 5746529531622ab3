"""Check `sa2va gaze predict` and `stream` with a stand-in model that fixates along the diagonal."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sa2va.apps import cli
from sa2va.gaze import predictor
from sa2va.gaze.scanpath import Fixation, Pack, Scanpath

SIZE = (64, 40)


class Diagonal:
    """Stream whose fixations move 5 px along the diagonal with every word."""

    def __init__(self, num_samples: int) -> None:
        self.words: list[str] = []
        self.onsets: list[float] = []
        self.target = SimpleNamespace(score=0.5)
        self._packs: list[list[Pack]] = [[] for _ in range(num_samples)]
        self.bot = self._look(None)

    def _look(self, word: str | None) -> list[Pack]:
        step = len(self._packs[0])
        pack = Pack((Fixation(5.0 * step, 4.0 * step, 200.0 * step, 150.0),), word)
        for row in self._packs:
            row.append(pack)
        return [pack] * len(self._packs)

    def hear(self, word: str) -> list[Pack]:
        self.onsets.append(200.0 * len(self.words) + 50)
        self.words.append(word)
        return self._look(word)

    def end(self) -> list[Pack]:
        if not self.words:
            raise ValueError("no word has been heard; hear one first")
        return self._look(None)

    @property
    def scanpaths(self) -> list[Scanpath]:
        return [Scanpath(packs=tuple(row), width=SIZE[0], height=SIZE[1]) for row in self._packs]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Record the arguments that the commands pass to the model."""
    seen: dict[str, Any] = {}

    def start(image: str, **options: Any) -> Diagonal:
        seen.update(image=image, **options)
        return Diagonal(options["num_samples"])

    def load_gaze(name: str, **options: Any) -> Any:
        seen.update(name=name, **options)
        return SimpleNamespace(start=start)

    monkeypatch.setattr(predictor, "load_gaze", load_gaze)
    return seen


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "scene.png"
    Image.fromarray(np.full((SIZE[1], SIZE[0], 3), 180, np.uint8)).save(path)
    return str(path)


def test_a_scanpath_in_words(picture: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gaze", "predict", picture, "red cup", "--seed", "3", "--mode", "mode"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [line.split()[0] for line in lines] == ["(start)", "red", "cup", "(end)"]
    assert "(5, 4) 150 ms" in lines[1] and "-o FOLDER" in told.err
    assert asked["num_samples"] == 10 and asked["seed"] == 3 and asked["mode"] == "mode" and asked["name"] == "tiny"


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def test_a_film_of_an_earlier_run_goes(picture: str, asked: dict[str, Any], tmp_path: Path) -> None:
    words = ["gaze", "predict", picture, "red cup", "--samples", "1", "-o", str(tmp_path / "out"), "--quiet", "--film"]
    for film in ("gif", "none"):
        assert cli.main([*words, film]) == 0
    assert sorted(visible(tmp_path / "out")) == ["scanpath.png", "scanpaths.json"]


def test_the_input_is_never_replaced(
    picture: str, asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "scanpath.png"
    source.write_bytes(Path(picture).read_bytes())
    assert cli.main(["gaze", "predict", str(source), "red cup", "-o", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "scanpath.png is the input itself" in error and error.count("\n") == 1 and not asked
    assert source.read_bytes() == Path(picture).read_bytes()


@pytest.mark.parametrize("film", ["mp4", "gif", "none"])
def test_files(film: str, picture: str, asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    options = ["--samples", "3", "--film", film, "-o", str(out), "--quiet", "--json"]
    assert cli.main(["gaze", "predict", picture, "red cup", *options]) == 0
    films = [] if film == "none" else [f"scanpath.{film}"]
    assert sorted(visible(out)) == sorted(["scanpath.png", "scanpaths.json", *films])
    records = json.loads((out / "scanpaths.json").read_text())
    assert records == json.loads(capsys.readouterr().out) and len(records) == 3
    read = Scanpath.from_json(records[0], width=SIZE[0], height=SIZE[1])
    assert read.words == ("red", "cup") and read.sizes == [1, 1, 1, 1]
    assert Image.open(out / "scanpath.png").width == 960


def test_a_folder_where_a_file_must_go_is_found_before_the_work(
    picture: str, asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "scanpath.gif").mkdir(parents=True)
    assert cli.main(["gaze", "predict", picture, "cup", "--film", "gif", "-o", str(tmp_path / "out")]) == 2
    assert "scanpath.gif is a folder, and a file must go there" in capsys.readouterr().err
    assert not asked and [path.name for path in (tmp_path / "out").iterdir()] == ["scanpath.gif"]


def test_the_consensus_is_one_of_those_drawn(
    picture: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["gaze", "predict", picture, "the cup", "--mode", "consensus", "--samples", "3", "--json"]) == 0
    (path,) = json.loads(capsys.readouterr().out)
    assert path["words"] == ["the", "cup"] and (asked["mode"], asked["num_samples"]) == ("sample", 3)
    assert cli.main(["gaze", "stream", picture, "--mode", "consensus"]) == 2


def test_words_as_they_come(
    picture: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the red\n\ncup\n"))
    assert cli.main(["gaze", "stream", picture, "--json", "--samples", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["word"] for line in lines] == [None, "the", "red", "cup", None]
    assert all(len(line["packs"]) == 2 and line["target"] == 0.5 for line in lines)
    assert lines[2]["packs"][0] == [{"x": 10.0, "y": 8.0, "start": 400.0, "duration": 150.0}]


def test_a_line_without_an_end_is_refused(
    picture: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/zero", encoding="utf-8") as endless:
        monkeypatch.setattr("sys.stdin", endless)
        assert cli.main(["gaze", "stream", picture]) == 2
    told = capsys.readouterr().err
    assert told == "sa2va: a line has 65536 characters or more; expected words between spaces or lines\n"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_not_utf8_are_named(
    errors: str,
    picture: str,
    asked: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    piped = io.TextIOWrapper(io.BytesIO(b"the\ncaf\xe9 cup\n"), encoding="utf-8", errors=errors)
    monkeypatch.setattr("sys.stdin", piped)
    assert cli.main(["gaze", "stream", picture]) == 2
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["-", "the"]
    assert told.err.startswith(r"sa2va: line 'caf\udce9 cup': is not valid UTF-8") and told.err.count("\n") == 1


def test_training_can_be_looked_at_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gaze", "train", "published_gaze", "gaze.steps=7", "--dry-run"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["gaze"]["steps"] == 7 and told["start"].startswith("ByteDance/")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "nothing"], "unknown gaze recipe"),
        (["train", "tiny_gaze", "gaze.leaps=3", "--dry-run"], "leaps"),
        (["predict", "{picture}", " "], "EXPRESSION is empty"),
        (["predict", "{picture}", "red " * 257], "expression of 257 words: expected at most 256; shorten it"),
        (["predict", "{picture}", "cup", "--samples", "0"], "samples"),
        (["predict", "{picture}", "cup", "--film", "avi"], "avi"),
        (["predict", "none.png", "cup"], "none.png"),
        (["predict", "{folder}", "cup"], "expected a picture, got a folder"),
        (["stream", "{folder}"], "expected a picture, got a folder"),
        (["stream", "{picture}"], "no word has been heard"),
        (["stream", "none.png"], "none.png"),
        (["stream", ""], "media: the name is empty"),
        (["predict", "", "cup"], "media: the name is empty"),
        (["predict", "{picture}", "cup", "--gaze", ""], "'--gaze': the name is empty"),
        (["predict", "{picture}", "cup", "-o", "{folder}"], "scanpaths.json was not written by sa2va"),
    ],
)
def test_bad_input(
    words: list[str],
    expected: str,
    picture: str,
    asked: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    (Path(picture).parent / "scanpaths.json").write_text("of a user")
    assert cli.main(["gaze", *[word.format(picture=picture, folder=Path(picture).parent) for word in words]]) == 2
    told = capsys.readouterr().err
    assert expected in told and told.count("\n") == 1


def test_a_closed_standard_input_is_named_before_the_work(
    picture: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert cli.main(["gaze", "stream", picture]) == 2
    text, error = capsys.readouterr()
    assert text == "" and error.startswith("sa2va: standard input is closed") and error.count("\n") == 1
    assert not asked
