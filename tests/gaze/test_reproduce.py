"""Check that docs/reproduce.md names every page with figures, and only commands that exist, extensions included."""

import re
from pathlib import Path

import pytest
import typer
import typer.core

from sa2va.apps.cli import build_app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reproduce.md"
CARD = ROOT / "src" / "sa2va" / "weights" / "tiny" / "README.md"
FIGURE = re.compile(r"\b0\.\d{3}\b")
COMMANDS = sorted(set(re.findall(r"`((?:sa2va|python benchmarks/|bash benchmarks/|pytest )[^`]*)`", PAGE.read_text())))


def pages_with_figures() -> list[Path]:
    pages = [ROOT / "README.md", CARD, ROOT / "benchmarks" / "RESULTS.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if page != PAGE and FIGURE.search(page.read_text())]


def test_every_page_with_figures_is_named() -> None:
    text = PAGE.read_text()
    missing = [page.as_posix() for page in pages_with_figures() if page.name not in text and page.stem not in text]
    assert not missing


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert links and not [link for link in links if not (PAGE.parent / link).is_file()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists_with_its_options(command: str) -> None:
    words = command.split()
    if words[0] == "pytest":
        assert all((ROOT / word).exists() for word in words[1:])
        return
    if words[0] in ("python", "bash"):
        source = (ROOT / words[1]).read_text()
        assert all(word.lstrip("-") in source for word in words[2:] if word.startswith("--"))
        return
    found = typer.main.get_command(build_app())
    words = words[1:]
    while isinstance(found, typer.core.TyperGroup):
        found = found.commands[words.pop(0)]
    known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert not [word for word in words if re.match(r"--?[a-z]", word) and word not in known]
