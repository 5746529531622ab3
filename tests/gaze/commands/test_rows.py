"""Check that gaze reports print names from files without interpreting their markup."""

import pytest

from sa2va.gaze.commands.rows import print_page

EVIL, SEEN = "a\x1b[31m\u202egnp[red]b", r"a\x1b[31m\u202egnp[red]b"  # ESC, text from right to left, markup


def test_tables_show_names_and_obey_no_markup_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_page(f"| system | bits |\n|---|--:|\n| {EVIL} | 1.0 |\n\nof {EVIL}\n")
    said = capsys.readouterr().out
    assert said.count(SEEN) == 2 and "\x1b" not in said and "\u202e" not in said
