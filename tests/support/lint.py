"""Share what lint rules need: the files of the repository, the name of a place, one failure for all offenders."""

from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "sa2va"
SOURCES = sorted(SRC.rglob("*.py"))
EVERY_FILE = SOURCES + [path for folder in ("tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]


def where(path: Path, line: int = 0) -> str:
    name = path.relative_to(ROOT).as_posix()
    return f"{name}:{line}" if line else name


def refuse(offenders: Iterable[str], rule: str) -> None:
    """Fail with every place that breaks a rule, a line each."""
    found = list(dict.fromkeys(offenders))
    assert not found, f"{rule}:\n" + "\n".join(found)
