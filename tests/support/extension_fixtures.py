"""Register extensions of a test's own in place of the installed ones."""

import sys
from collections.abc import Callable, Generator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sa2va import extensions

Register = Callable[..., None]


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Register]:
    """Register extensions by name and source; None registers one whose folder was deleted."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**sources: str | None) -> None:
        points = []
        for name, source in sources.items():
            module = f"{name}_for_test"
            monkeypatch.delitem(sys.modules, f"{module}.extension", raising=False)
            if source is not None:
                (tmp_path / module).mkdir()
                (tmp_path / module / "extension.py").write_text(source)
            points.append(EntryPoint(name, f"{module}.extension", extensions.GROUP))
        monkeypatch.setattr(extensions, "entry_points", lambda group: points if group == extensions.GROUP else [])
        clear()

    def clear() -> None:
        extensions.registered_extensions.cache_clear()
        extensions.load_extensions.cache_clear()

    yield write
    monkeypatch.undo()
    clear()
