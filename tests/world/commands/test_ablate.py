"""List the runs of an ablation, and refuse bad input in one line."""

from pathlib import Path

import pytest

from sa2va.apps import cli


def test_a_dry_run_lists_the_runs_of_a_shard_and_names_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ablate", "data-scale", "--seeds", "2", "--shard", "1/2", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()[:-1]] == ["all-0", "refsav-0", "infinity_mm-1"]
    assert out.splitlines()[-1].startswith("3 runs, about ")
    assert "--engine DIR" in err


def test_all_tables_share_their_base(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["ablate", "all", "--seeds", "1", "--dry-run", "--engine", str(tmp_path)]) == 0
    names = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert len(names) == len(set(names)) == 11


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cotraining"], "add -o FOLDER"),
        (["cotraining", "--shard", "3/2", "--dry-run"], "3/2"),
        (["page", "nowhere", "page.md"], "no such file"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ablate", *words]) == 2
    assert said in capsys.readouterr().err
