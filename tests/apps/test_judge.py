"""Check the options of a judge: its key, its instructions, its folder, and bad values."""

from pathlib import Path

import pytest
from support.judge_server import Server, completion

from sa2va.apps import cli
from sa2va.apps.judge import KEY, JudgeChoice
from sa2va.evaluation.judge import INSTRUCTIONS, Case, current_judge

CASE = Case("What?", "red", "blue")


def test_key_and_instructions_come_from_files_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(completion("1"))
    monkeypatch.setenv(KEY, "from environment")
    with JudgeChoice(judge=server.url, judge_model="m").judging(None):
        assert current_judge().rate(CASE)["score"] == 1
    (tmp_path / "key").write_text("from file\n")
    (tmp_path / "prompt").write_text("Be strict.\n")
    choice = JudgeChoice(
        judge=server.url, judge_model="m", judge_key_file=tmp_path / "key", judge_prompt=tmp_path / "prompt"
    )
    with choice.judging(tmp_path / "out"):
        current_judge().rate(CASE)
    server.close()
    assert [one["Authorization"] for one in server.headers] == ["Bearer from environment", "Bearer from file"]
    assert [one["messages"][0]["content"] for one in server.requests] == [INSTRUCTIONS, "Be strict."]
    assert (tmp_path / "out" / "judge.jsonl").is_file()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--judge", "localhost"], "expected the base of a server"),
        (["--judge", "http://127.0.0.1:1/v1"], "add --judge-model NAME"),
        (["--judge-key-file", "absent"], "absent: cannot be read as text"),
        (["--judge-prompt", "empty"], "empty: is empty"),
    ],
)
def test_a_bad_judge_is_bad_input(
    given: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    for command in (
        ["eval", "tiny", "--benchmarks", "mmbench_video", "--data", str(tmp_path)],
        ["score", str(tmp_path)],
    ):
        assert cli.main([*command, *given]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
