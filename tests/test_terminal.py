"""No text reaches a terminal as a command to it: control characters and markup are shown, JSON keeps real names."""

import ast
import json
import os
import unicodedata
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from sa2va.apps.cli import main
from sa2va.apps.commands.doctor import needs_table
from sa2va.media.pictures import save_image
from sa2va.terminal import in_markup, shown
from sa2va.training.logger import RunLogger

EVIL = "a\x1b[31m\x07\x9b2J\u202egnp\u2066[red]b"  # ESC, BEL, CSI, text from right to left, an isolate, markup
SEEN = r"a\x1b[31m\x07\x9b2J\u202egnp\u2066[red]b"
APPS = Path(__file__).resolve().parent.parent / "src" / "sa2va" / "apps"


def is_safe(text: str) -> bool:
    return not any(unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and one != "\n" for one in text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EVIL, SEEN),
        ("två 猫 \U0001f408\u200d\u2b1b.png", "två 猫 \U0001f408\u200d\u2b1b.png"),
        ("a\nb\tc\r\x00", r"a\nb\tc\r\x00"),
        (os.fsdecode(b"\xff.png"), r"\udcff.png"),
        ("\u2028\U000e0041", r"\u2028\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_lines_may_stay() -> None:
    assert shown("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


@given(st.text())
def test_no_text_is_obeyed(text: str) -> None:
    assert is_safe(shown(text).replace("\u200c", "").replace("\u200d", ""))
    plain = Text.from_markup(in_markup(text), emoji=False).plain
    assert plain.rstrip("\\") == shown(text).rstrip("\\")  # rich doubles a backslash at the end


def test_an_error_shows_the_name_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(tmp_path / f"{EVIL}.png"), "the red circle"]) == 2
    said = capsys.readouterr().err
    assert SEEN in said and is_safe(said) and said.count("\n") == 1


@pytest.mark.usefixtures("toy_model")
def test_a_remark_and_an_answer_show_it_and_json_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    picture, folder = tmp_path / f"{EVIL}.png", tmp_path / EVIL
    save_image(picture, np.zeros((8, 8, 3), np.uint8))
    assert main(["segment", str(picture), f"nothing {EVIL}", "-o", str(folder)]) == 0
    spoken = capsys.readouterr()
    assert f"wrote 2 files to {tmp_path}/{SEEN}/" in spoken.err and is_safe(spoken.err + spoken.out)
    assert main(["segment", str(picture), "the dark", "-o", str(folder), "--json", "--quiet"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files and all(Path(name).parent.name in (EVIL, "mask_1") and Path(name).is_file() for name in files)


@pytest.fixture
def toy_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose every mask is empty of all but what is dark: what it says is not what is tested."""
    import numpy as np

    import sa2va
    from sa2va.inference.results import ObjectMasks, Prediction
    from sa2va.masks import encode_rle
    from sa2va.media.source import open_media

    class Toy:
        def predict(self, media: object, prompt: str, **options: object) -> Prediction:
            opened = open_media(media)
            rle = dict(encode_rle(np.ones((8, 8), bool)))
            one = ObjectMasks(id=1, phrase=EVIL, presence=1.0, scores=np.ones(1, np.float32), rles=(rle,))
            found = () if "nothing" in prompt else (one,)
            return Prediction(text=f"It is {EVIL}.", media=opened, num_frames=1, objects=found)

    monkeypatch.setattr(sa2va, "load", lambda *name, **options: Toy())


def test_tables_show_names_and_obey_no_markup_of_them() -> None:
    console = Console(file=StringIO(), width=400, record=True)
    report = {"parameters": 9, "family": "internvl", "language": None, "name": EVIL, "terms": None, "choices": {}}
    console.print(needs_table(report))
    said = console.export_text()
    assert said.count(SEEN) == 1 and is_safe(said)


def test_notes_of_a_run_show_names(tmp_path: Path) -> None:
    said = StringIO()
    with RunLogger(tmp_path, tensorboard=False, stream=said) as logger:
        logger.note(f"saved in {EVIL}")
    assert said.getvalue() == f"saved in {SEEN}\n"


def test_every_command_speaks_through_the_places_that_escape() -> None:
    """`print` is for JSON, which escapes, and for fixed words; answers and remarks go through `say` and `remark`."""
    for path in sorted(APPS.rglob("*.py")):
        if path.name in ("report.py", "cli.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                words = ast.unparse(node.args[0])
                assert words.startswith("json.dumps("), f"{path.name}:{node.lineno}: print({words})"
