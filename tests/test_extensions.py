"""Check that extensions are found, skipped if their folder was deleted, and named if they are broken."""

import ast
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest
from support.extension_fixtures import Register

import sa2va
from sa2va import extensions
from sa2va.apps import cli


def test_parts_are_listed_from_the_lowest_floor_up(register: Register) -> None:
    register(
        above="FLOOR = 7\nDATASETS = {'above/a': 'm:a'}",
        below="FLOOR = 6\nDATASETS = {'below/b': 'm:b', 'below/a': 'm:c'}",
        other="GROUPS = {'other': 'm:d'}",
    )
    assert list(extensions.load_extensions()) == ["below", "above", "other"]
    assert list(extensions.collect("DATASETS")) == ["below/b", "below/a", "above/a"]
    assert extensions.collect("GROUPS") == {"other": "m:d"} and extensions.collect("RECIPES") == {}
    assert extensions.missing_extensions() == []


def test_a_part_is_imported_when_its_name_is_used(register: Register) -> None:
    register(one="DATASETS = {'pi': 'math:pi', 'lost': 'math:tau2', 'gone': 'no_such_module:x'}")
    assert extensions.find_part("dataset", "pi", {}) == pytest.approx(3.14159, abs=1e-5)
    assert extensions.find_part("dataset", "own", {"own": 3}) == 3
    with pytest.raises(ValueError, match="dataset 'x' is unknown: use one of own, pi, lost, gone"):
        extensions.find_part("dataset", "x", {"own": 3})
    with pytest.raises(ValueError, match="math:tau2 of an extension cannot be imported: .*tau2"):
        extensions.find_part("dataset", "lost", {})
    with pytest.raises(ValueError, match="no_such_module:x of an extension cannot be imported: No module named"):
        extensions.find_part("dataset", "gone", {})


def test_a_deleted_folder_is_absent(
    register: Register, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(here="DATASETS = {'a': 'm:a'}", gone=None)
    assert list(extensions.load_extensions()) == ["here"] and extensions.missing_extensions() == ["gone"]
    assert cli.main(["--help"]) == 0
    capsys.readouterr()
    assert cli.main(["eval", "tiny", "--gone"]) == 2
    assert capsys.readouterr().err == (
        "sa2va: --gone: the extension gone is not installed; install the whole package again\n"
    )
    assert cli.main(["eval", "tiny", "--never"]) == 2
    assert "No such option: --never" in capsys.readouterr().err
    monkeypatch.setattr(cli, "COMMANDS", {"try": lambda: import_module("gone_for_test.part")})
    assert cli.main(["try"]) == 2
    assert capsys.readouterr().err == "sa2va: this needs the extension gone, which is not installed\n"
    with pytest.raises(AttributeError, match="no attribute 'load_other'; not installed here: gone"):
        getattr(sa2va, "load_other")  # noqa: B009


@pytest.mark.parametrize("source", ["import no_such_module", "from math import nothing", "1 / 0", "def"])
def test_a_broken_extension_is_named_in_one_line(
    source: str, register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    register(broken=source)
    assert cli.main(["--help"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sa2va: extension 'broken' (broken_for_test.extension) cannot be imported: ")
    assert error.endswith("; repair or uninstall it\n") and error.count("\n") == 1


def test_two_extensions_cannot_add_the_same_name(register: Register) -> None:
    register(one="DATASETS = {'a': 'm:a'}", two="DATASETS = {'a': 'm:b'}")
    with pytest.raises(ValueError, match="extension 'two': the name 'a' in DATASETS is taken by m:a"):
        extensions.collect("DATASETS")


def test_without_any_extension_the_core_says_so(register: Register, capsys: pytest.CaptureFixture[str]) -> None:
    register()
    for words, message in [
        (["data", "check", "nope"], "dataset check 'nope' is unknown: use one of refcoco, "),
        (["eval", "tiny"], "nothing to evaluate; add --benchmarks NAME"),
        (["eval", "tiny", "-b", "nope"], "benchmark 'nope' is unknown"),
    ]:
        assert cli.main(words) == 2
        assert capsys.readouterr().err.startswith(f"sa2va: {message}")


@pytest.mark.parametrize("name", list(extensions.load_extensions()))
def test_what_an_extension_lists_is_there(name: str) -> None:
    module = extensions.load_extensions()[name]
    path = Path(module.__file__ or "")
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    for kind, parts in vars(module).items():
        if kind.isupper() and isinstance(parts, dict):
            for reference in parts.values():
                assert extensions.resolve(reference) is not None


def test_every_module_can_be_imported_but_for_what_a_deleted_extension_held() -> None:
    for module in pkgutil.walk_packages(sa2va.__path__, "sa2va."):
        try:
            import_module(module.name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "lmms_eval":  # whose plug-in lmms-eval alone imports
                continue
            assert extensions.missing_import(error) and module.name.split(".")[1] in extensions.load_extensions(), error
