"""Hold the prose of the repository to the words of the field, in American spelling."""

import re
from collections.abc import Iterable
from pathlib import Path

from support.lint import EVERY_FILE, ROOT, SOURCES, refuse, where

# Halves of sentences that nobody outside this project could read, each mended once; see CONTRIBUTING.md, Docstrings.
RIDDLES = (
    "Tie words to places",
    "what the name fits that the word belongs to",
    "of a CPU so much of a block",
    "Average values by how well their keys fit",
    "but for the first one's attention to itself",
    "In what the published systems differ",
    "Teach what composes from many exchanges",
    "the objects that it and those before may mean",
    "Lessons of the words of questions",
    "Of their chance",
    "People to imagine",
    "Parts, cut by photo",
    "Train ours and the published ones as well",
    "has no use for it; leave it out",
    "0 measures nothing",
    "how likely the people were to look where they did",
    "Look without seeing",
    "Begin with eyes that have learned to look",
    "Show the only face of the package",
    "the most of an object's prompted frames",
)
BRITISH = re.compile(
    r"(?:normal|quant|summar|recogn|initial|optim|serial|visual|organ|general|special|real|minim|maxim|random|token|penal"
    r"|standard|util|categor|character|memor|parallel|synchron|vector|regular|discret|linear|local|raster|stabil)is"
    r"(?:e[sdr]?|ing|ation)s?(?![a-z])|emphasis(?:ed?|ing)|analys(?:ed|ing)|artefact|catalogue"
    r"|(?:col|behavi|neighb|fav|hon|lab|flav|hum|endeav)our|[Cc]entr(?:e[sd]?|ing)(?![a-z])|[Gg]rey",
)


def find_lines(paths: Iterable[Path], pattern: re.Pattern[str]) -> Iterable[str]:
    """List the lines of files that match, each with its place."""
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if path != Path(__file__) and (found := pattern.search(line)):
                yield f"{where(path, number)}: {found[0]!r}"


def test_no_riddles() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    written = [path for path in [*EVERY_FILE, *pages] if path.name not in {"LOG.md", "CHANGELOG.md"}]
    refuse(find_lines(written, re.compile("|".join(map(re.escape, RIDDLES)))), "use the words of the field")


def test_american_spelling() -> None:
    refuse(find_lines(SOURCES, BRITISH), "American spelling, as in the libraries we stand on")
