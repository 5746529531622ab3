"""Check the report on installed libraries, with a fix for each broken one."""

import sys
import tomllib
from pathlib import Path

import pytest

from sa2va.apps import installation
from sa2va.apps.installation import EXTRAS, REQUIRED, Part, inspect_installation, try_import

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {text.replace(">", "=").partition("=")[0] for text in requirements}


def test_the_tables_follow_the_project_file() -> None:
    running = {"typer", "rich", "tqdm"}  # without these nobody would read the report
    assert set(REQUIRED) | running == names(PROJECT["dependencies"])
    for name, extra in EXTRAS.items():
        assert name in names(PROJECT["optional-dependencies"][extra])


def test_this_installation_works() -> None:
    parts = {part.name: part for part in inspect_installation()}
    assert {"Python", *REQUIRED, *EXTRAS} <= set(parts)
    assert not [part for part in parts.values() if part.is_broken]
    assert parts["numpy"].version and parts["numpy"].problem is None


def test_a_library_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    part = try_import("av", "av", "pip install av")
    assert part.is_broken and part.problem is not None
    assert part.problem.startswith("cannot be imported (") and part.problem.endswith("pip install av")
    assert "\n" not in part.problem


def test_a_missing_extra_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_version", lambda name: None if name in EXTRAS else "1.0")
    monkeypatch.setattr(installation, "import_module", lambda name: None)
    parts = {part.name: part for part in inspect_installation()}
    assert parts["peft"] == Part("peft", None, "optional: pip install 'sa2va[adapter]'", "adapter")
    assert not any(part.is_broken for part in parts.values())


def test_a_torchvision_for_another_torch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(installation, "find_version", lambda name: "1.0")
    monkeypatch.setattr(installation, "import_module", fail)
    broken = [part for part in inspect_installation() if part.is_broken]
    assert [part.name for part in broken] == ["torchvision"]
    assert "pip uninstall torchvision" in (broken[0].problem or "")
