"""Check a conversation through a pipe."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sa2va.apps import cli
from sa2va.inference.requests import Options


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    picture = np.full((30, 40, 3), 255, np.uint8)
    picture[10:20, 5:25] = 0
    Image.fromarray(picture).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def say(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_answers_come_a_line_each(
    toy: Any, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, "how many?\n\nwhat color?\n")
    assert cli.main(["chat", str(photo)]) == 0
    assert capsys.readouterr().out == "answer 1 to how many?\nanswer 2 to what color?\n"


def test_sampling_is_that_of_every_question(toy: Any, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--temperature", "0.5", "--top-p", "0.9", "--seed", "3", "--stop", ".", "--stop", "\n\n"]
    for as_json in ([], ["--json"]):
        say(monkeypatch, "how many?\nwhat color?\n")
        assert cli.main(["chat", str(photo), *given, "--max-new-tokens", "9", *as_json]) == 0
    wanted = Options(temperature=0.5, top_p=0.9, seed=3, stop=(".", "\n\n"), max_new_tokens=9)
    assert toy.options == [wanted] * 4
    say(monkeypatch, "how many?\n")
    assert cli.main(["chat", str(photo)]) == 0 and toy.options[4] == Options()


@pytest.mark.parametrize("given", [["--top-p", "0"], ["--top-p", "1.1"], ["--top-p", "nan"], ["--stop", ""]])
def test_a_bad_option_of_sampling_is_one_line(
    given: list[str], toy: Any, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, "how many?\n")
    assert cli.main(["chat", str(photo), *given]) == 2
    assert capsys.readouterr().err.startswith("sa2va: ") and not toy.options


def test_masks_of_an_answer_go_to_its_own_folder(
    toy: Any, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, "segment nothing\nsegment the box\n")
    out = photo.parent / "out"
    assert cli.main(["chat", str(photo), "-o", str(out)]) == 0
    assert capsys.readouterr().out == "There is no nothing.\nIt is.\n"
    assert [path.name for path in out.iterdir()] == ["answer_02"]
    assert (out / "answer_02" / "mask_1.png").is_file()


def test_json_is_an_object_a_line(
    toy: Any, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, "segment the box\nsegment nothing\n")
    assert cli.main(["chat", str(photo), "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(answer["objects"]) for answer in answers] == [1, 0]


def test_regions_belong_to_the_first_question(toy: Any, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, "what is region1?\nand now?\n")
    assert cli.main(["chat", str(photo), "--region", "5,5", "--json"]) == 0
    assert [regions for _, regions in toy.asked] == [[(5.0, 5.0)], None]


def test_a_bad_question_in_a_pipe_is_bad_input(
    toy: Any, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_long(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("the prompt is too long")

    monkeypatch.setattr(toy, "predict", too_long, raising=False)
    say(monkeypatch, "segment the box\n")
    assert cli.main(["chat", str(photo), "--json"]) == 2
    assert capsys.readouterr().err == "sa2va: the prompt is too long\n"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_not_utf8_are_named(
    errors: str, toy: Any, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python decodes them differently per locale; our error message is the same."""
    piped = io.TextIOWrapper(io.BytesIO(b"how many?\ncaf\xe9 \xff?\n"), encoding="utf-8", errors=errors)
    monkeypatch.setattr("sys.stdin", piped)
    assert cli.main(["chat", str(photo), "--quiet"]) == 2
    text, remarks = capsys.readouterr()
    assert text == "answer 1 to how many?\n"
    assert remarks.startswith(r"sa2va: question 'caf\udce9 \udcff?': is not valid UTF-8") and remarks.count("\n") == 1


def test_answers_of_an_earlier_conversation_go(toy: Any, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = photo.parent / "out"
    (out / "answer_09").mkdir(parents=True)
    (out / "answer_09" / "notes.txt").write_text("mine")
    for said in ("segment the box\n" * 3, "segment the box\nsegment nothing\n"):
        say(monkeypatch, said)
        assert cli.main(["chat", str(photo), "-o", str(out), "--quiet"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["answer_01", "answer_09"]


def test_a_closed_standard_input_is_named_before_the_work(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sa2va.load", lambda name, **options: pytest.fail("the model must not be loaded"), raising=False
    )
    monkeypatch.setattr("sys.stdin", None)
    assert cli.main(["chat", str(photo), "-o", str(photo.parent / "out")]) == 2
    text, error = capsys.readouterr()
    assert text == "" and error.startswith("sa2va: standard input is closed") and error.count("\n") == 1
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]
