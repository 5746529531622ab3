"""Check the command line as a user meets it: exit codes, one-line errors, clean output, nothing half-written."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.own_process import plain_signals

import sa2va
from sa2va.apps import cli
from sa2va.apps.commands import chat as chat_module


def run(*argv: str) -> int:
    return cli.main(list(argv))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    place = tmp_path / "photo.png"
    Image.new("RGB", (40, 30), "white").save(place)
    return place


def no_model(*args: object, **kwargs: object) -> None:
    pytest.fail("the model must not be loaded for bad input")


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sa2va.apps.cli import main; code = main(['--help']);"
        "print(sorted({'torch', 'transformers', 'numpy', 'cv2', 'av', 'PIL'} & set(sys.modules)), code)"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[] 0"
    assert time.perf_counter() - start < 5  # under 0.5 s on a quiet machine


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"sa2va {command}" in capsys.readouterr().out


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "segment" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"sa2va {sa2va.__version__}"


BAD_INPUT = [
    (["nope"], "nope"),
    (["segment"], "MEDIA"),
    (["segment", "PHOTO"], "EXPRESSION"),
    (["segment", "PHOTO", " "], "EXPRESSION is empty"),
    (["segment", "PHOTO", "."], "EXPRESSION '.' has no word"),
    (["segment", "PHOTO", "caf\udce9 circle"], r"EXPRESSION 'caf\udce9 circle': is not valid UTF-8"),
    (["segment", "PHOTO", "a car", "--zz"], "--zz"),
    (["segment", "PHOTO", "a car", "--max-objects", "0"], "--max-objects"),
    (["segment", "PHOTO", "a car", "--threshold", "low"], "--threshold"),
    (["segment", "PHOTO", "a car", "--threshold", "nan"], "'--threshold': nan is not finite"),
    (["segment", "PHOTO", "a car", "--threshold=-inf"], "'--threshold': -inf is not finite"),
    (["segment", "PHOTO", "a car", "--dtype", "float7"], "--dtype"),
    (["segment", "PHOTO", "a car", "--quantize", "int2"], "--quantize"),
    (["segment", "PHOTO", "a car", "--region", "1,2,3"], "--region '1,2,3'"),
    (["segment", "PHOTO", "a car", "--region", "9,9,1,1"], "empty box"),
    (["segment", "FOLDER/missing.png", "a car"], "missing.png"),
    (["segment", "", "a car"], "media: the name is empty"),
    (["track", "", "a car", "-o", "FOLDER/out"], "media: the name is empty"),
    *(([*command, ""], "media: the name is empty") for command in (["caption"], ["chat"])),
    (["demo", "--media", ""], "media: the name is empty"),
    (["segment", "PHOTO", "a car", "-o", ""], "'--output' / '-o': the name is empty"),
    (["demo", "-o", ""], "'--output' / '-o': the name is empty"),
    (["convert", "tiny", ""], "'DST': the name is empty"),
    (["convert", "", "FOLDER/out"], "the name of the model is empty"),
    (["segment", "EMPTY", "a car"], "empty.jpg"),
    (["segment", "TEXT", "a car"], "text.jpg"),
    (["segment", "TRUNCATED", "a car"], "truncated.png"),
    (["segment", "HUGE", "a car"], "huge.png"),
    (["segment", "PHOTO", "a car", "-o", "PHOTO"], "is a file"),
    (["segment", "PHOTO", "a car", "-o", "PHOTO/below"], "cannot be written"),
    (["track", "PHOTO", "a car", "-o", "FOLDER/out"], "one picture"),
    (["track", "PHOTO", "a car"], "-o FOLDER"),
    (["segment", "PHOTO", "a car", "-o", "HERS"], "annotations.json was not written by sa2va, or has changed since"),
    (["caption", "CLIP", "-o", "HERS"], "annotations.json was not written by sa2va"),
    (["demo", "-o", "HERS", "--media", "PHOTO"], "own.mp4 was not written by sa2va"),
    (["eval", "tiny", "-b", "squares", "-o", "HERS"], "report.json: was not written by an evaluation"),
    (["track", "CUT_CLIP", "a car", "-o", "FOLDER/out"], "cut.mp4"),
    (["track", "CLIP", "a car", "-o", "TAKEN"], "mask_1 is a file, and a folder must go there"),
    (["segment", "PHOTO", "a car", "-o", "TAKEN"], "overlay.png is a folder, and a file must go there"),
    (["caption", "CLIP", "-o", "TAKEN"], "mask_1 is a file"),
    (["demo", "-o", "TAKEN", "--media", "PHOTO"], "index.html is a folder"),
    (["track", "PHOTO", "", "-o", "FOLDER/out"], "EXPRESSION is empty"),
    (["track", "PHOTO", "a car", "? ?", "-o", "FOLDER/out"], "EXPRESSION '? ?' has no word"),
    (["caption", "FOLDER/missing.png"], "missing.png"),
    (["caption", "PHOTO", "--grounded", "--region", "1,1,9,9"], "--region"),
    (["caption", "PHOTO", "--region", "1,1,9,9", "--region", "2,2"], "--region"),
    (["chat", "TEXT"], "text.jpg"),
    (["chat", "PHOTO", "--region", "x"], "--region"),
    (["demo", "--media", "FOLDER/missing.mp4", "-o", "FOLDER/out"], "missing.mp4"),
    (["demo", "--seed", "-1"], "--seed"),
    (["train", "nope"], "recipe 'nope' is unknown"),
    (["eval", "tiny"], "nothing to evaluate"),
    (["eval", "tiny", "-b", "squares", "--items", "0"], "--items"),
    (["eval", "tiny", "--benchmarks", "nope"], "benchmark 'nope' is unknown"),
]


BAD_FILES = {
    "EMPTY": "empty.jpg",
    "TEXT": "text.jpg",
    "TRUNCATED": "truncated.png",
    "HUGE": "huge.png",
    "CUT_CLIP": "cut.mp4",
    "CLIP": "clip.gif",
    "TAKEN": "taken",
    "HERS": "hers",
}


@pytest.fixture
def bad_files(tmp_path: Path, photo: Path) -> dict[str, str]:
    """Write misleading files; return them by their placeholder in BAD_INPUT."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (60, 60, 3), np.uint8)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(data[: len(data) // 2])
    # A valid header of 50,000 x 50,000 px in a file of a few bytes.
    header = bytearray(data)
    header[16:24] = (50_000).to_bytes(4, "big") * 2
    (tmp_path / "huge.png").write_bytes(header)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no picture\n")
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(64))
    frames = [Image.new("RGB", (32, 32), shade) for shade in ("black", "white")]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    for name in ("overlay.png", "index.html"):
        (tmp_path / "taken" / name).mkdir(parents=True)
    (tmp_path / "hers").mkdir()
    for name in ("annotations.json", "own.mp4", "report.json"):
        (tmp_path / "hers" / name).write_text("of a user")
    # Results would go where something of the other kind is.
    (tmp_path / "taken" / "mask_1").write_text("a file of that name\n")
    places = {key: str(tmp_path / name) for key, name in BAD_FILES.items()}
    return places | {"PHOTO": str(photo), "FOLDER": str(tmp_path)}


@pytest.mark.parametrize(("argv", "named"), BAD_INPUT, ids=[ascii(" ".join(argv)) for argv, _ in BAD_INPUT])
def test_bad_input_is_one_line_and_exit_code_2(
    argv: list[str],
    named: str,
    bad_files: dict[str, str],
    small_benchmarks: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(vars(sa2va), "load", no_model)
    before = sorted(path.name for path in tmp_path.iterdir())
    words = []
    for word in argv:
        head, slash, tail = word.partition("/")
        words.append(bad_files.get(head, head) + slash + tail if not word.startswith("-") else word)
    assert run(*words) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("sa2va: ") and error.count("\n") == 1 and named in error, error
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("the prompt\n  is too long"), 2, "sa2va: the prompt is too long"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), 2, "sa2va: No such file or directory: 'x.png'"),
        (OSError(13, "Permission denied"), 2, "sa2va: Permission denied"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
        (RuntimeError("boom"), 1, "sa2va: unexpected RuntimeError: boom (SA2VA_DEBUG=1 shows where)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_become_exit_codes(
    error: BaseException,
    code: int,
    line: str,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(name: str, **options: object) -> None:
        raise error

    monkeypatch.setitem(vars(sa2va), "load", fail)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # main replaces it when the reader has left
    monkeypatch.delenv("SA2VA_DEBUG", raising=False)
    assert run("caption", str(photo), "-o", str(tmp_path / "out")) == code
    assert capsys.readouterr().err.strip() == line
    assert not (tmp_path / "out").exists()


OURS, THEIRS = str(Path(sa2va.__file__).parent / "video.py"), "/elsewhere/library.py"


@pytest.mark.parametrize(
    ("category", "file", "words", "line"),
    [
        (UserWarning, OURS, [], "sa2va: clip.mp4: frame 18 is damaged\n"),
        (UserWarning, OURS, ["--quiet"], ""),
        (UserWarning, OURS, ["-qo", "FOLDER"], ""),
        (UserWarning, THEIRS, [], None),
        (UserWarning, THEIRS, ["--quiet"], None),
        (FutureWarning, OURS, ["--quiet"], None),
    ],
)
def test_warnings_of_ours_are_remarks(
    category: type[Warning],
    file: str,
    words: list[str],
    line: str | None,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def warn(name: str, **options: object) -> None:
        warnings.warn_explicit("clip.mp4: frame 18\n is damaged", category, file, 1)
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(sa2va), "load", warn)
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda *args: shown.append(args[2]))
    assert run("caption", str(photo), *[str(tmp_path / "out") if word == "FOLDER" else word for word in words]) == 130
    assert capsys.readouterr().err == (line or "")
    assert shown == ([] if line is not None else [file])


WAIT = (
    "import sys, time, sa2va\n"
    "from sa2va.apps import cli\n"
    "def wait(name, **options): print('loading', flush=True); time.sleep(60)\n"
    "sa2va.load = wait\n"
    "sys.exit(cli.main(sys.argv[1:]))\n"
)


def start_and_signal(words: list[str], *numbers: int, ignored: bool = False) -> tuple[int, str]:
    """Run a command in a process of its own, send signals while it loads a model; return exit code and remarks."""
    program = [sys.executable, "-c", WAIT, *words]
    process = subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) if ignored else plain_signals,
    )
    assert process.stdout is not None and process.stdout.readline() == "loading\n"
    for number in numbers:
        process.send_signal(number)
    _, remarks = process.communicate(timeout=60)
    return process.returncode, remarks


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_nothing_behind(number: int, code: int, photo: Path, tmp_path: Path) -> None:
    assert start_and_signal(["caption", str(photo), "-o", str(tmp_path / "out")], number) == (code, "")
    assert not (tmp_path / "out").exists()


def test_nohup_is_heeded(photo: Path) -> None:
    assert start_and_signal(["caption", str(photo)], signal.SIGHUP, signal.SIGTERM, ignored=True) == (143, "")


def test_a_run_sweeps_what_a_killed_one_left(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    words = ["caption", str(photo), "-o", str(out)]
    assert start_and_signal(words, signal.SIGKILL) == (-signal.SIGKILL, "")
    assert [path.name.startswith(".sa2va-") for path in out.iterdir()] == [True]

    def stop(name: str, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(sa2va), "load", stop)
    assert run(*words) == 130 and list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("closed", "command", "code", "remark"),
    [
        ("<&-", "chat PHOTO", 2, "sa2va: standard input is closed"),
        (">&-", "caption missing.png", 2, "sa2va: missing.png: there is no such file"),
        ("2>&-", "caption missing.png", 2, ""),
        ("<&- >&- 2>&-", "data check nope missing", 2, ""),
        (">&-", "--version", 0, ""),
    ],
)
def test_standard_streams_may_be_closed(
    closed: str, command: str, code: int, remark: str, photo: Path, tmp_path: Path
) -> None:
    program = f"{sys.executable} -m sa2va.apps.cli {command.replace('PHOTO', str(photo))} {closed}"
    result = subprocess.run(program, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith(remark) and result.stderr.count("\n") == bool(remark)


def test_a_handler_of_the_callers_stays() -> None:
    def mine(number: int, frame: object) -> None: ...

    signal.signal(signal.SIGTERM, mine)
    try:
        with cli.terminable():
            assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_debug_shows_the_traceback(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA2VA_DEBUG", "1")
    with pytest.raises(ValueError, match="--region"):
        run("caption", str(photo), "--region", "x")


def test_exit_code_reaches_the_shell(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "sa2va.apps.cli", "caption", str(tmp_path / "missing.png")]
    result = subprocess.run(program, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert result.returncode == 2
    assert result.stdout == "" and result.stderr.count("\n") == 1 and "missing.png" in result.stderr


@pytest.mark.parametrize(
    ("lines", "questions"),
    [
        (["how many?", "", "  what color?  "], ["how many?", "what color?"]),
        (["first", "exit", "never asked"], ["first"]),
        (["QUIT"], []),
        ([], []),
    ],
)
def test_chat_reads_a_question_a_line(lines: list[str], questions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    feed = iter(lines)

    def read(prompt: str) -> str:
        try:
            return next(feed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    assert list(chat_module.read_questions(interactive=False)) == questions
