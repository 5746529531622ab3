"""Check the line that lists the written files."""

from pathlib import Path

import pytest

from sa2va.apps.report import describe_files


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
