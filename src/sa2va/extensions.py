"""Find the extensions of the package and the parts that each adds to the core.

Flow: entry points of the group "sa2va.extensions" -> load_extensions -> extension modules with one dictionary
    per kind of part (BENCHMARKS, GROUPS, DATASETS, ...) -> collect -> {name: "module:attribute"} -> resolve, find_part.
    An extension module holds literal dictionaries and imports nothing, so that listing names imports no library.
    Extensions are ordered by their number FLOOR, then by name; those without a FLOOR come last.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from math import inf
from types import ModuleType
from typing import Any

GROUP = "sa2va.extensions"


@cache
def registered_extensions() -> dict[str, str]:
    """Return all registered extensions as name -> module path, including those whose folder was deleted."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


@cache
def load_extensions() -> dict[str, ModuleType]:
    """Import the installed extensions, ordered by FLOOR; skip those whose folder was deleted.

    Raises:
        ValueError: an extension cannot be imported.
    """
    found = {}
    for name, module in registered_extensions().items():
        try:
            found[name] = import_module(module)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
                continue
            raise ValueError(
                f"extension {name!r} ({module}) cannot be imported: {error}; repair or uninstall it"
            ) from error
    return dict(sorted(found.items(), key=lambda item: (getattr(item[1], "FLOOR", inf), item[0])))


def missing_extensions() -> list[str]:
    """Return the names of registered extensions whose folder was deleted."""
    return sorted(registered_extensions().keys() - load_extensions().keys())


def missing_import(error: BaseException) -> str | None:
    """Return the name of the deleted extension that caused an import error; None for any other error."""
    if isinstance(error, ModuleNotFoundError):
        for name in missing_extensions():
            if f"{error.name}.".startswith(registered_extensions()[name].rpartition(".")[0] + "."):
                return name
    return None


def collect(kind: str) -> dict[str, str]:
    """Merge the parts of one kind from all extensions into one dictionary: name -> "module:attribute".

    Args:
        kind: name of a dictionary of extension modules: "BENCHMARKS", "GROUPS", "DATASETS", "RECIPES", ...

    Raises:
        ValueError: an extension cannot be imported, or two extensions add the same name.
    """
    parts: dict[str, str] = {}
    for extension, module in load_extensions().items():
        for name, reference in getattr(module, kind, {}).items():
            if name in parts:
                raise ValueError(
                    f"extension {extension!r}: the name {name!r} in {kind} is taken by {parts[name]}; uninstall one"
                )
            parts[name] = reference
    return parts


def find_part(noun: str, name: str, own: Mapping[str, Any]) -> Any:
    """Return a part of the core or of an extension by name.

    Args:
        noun: kind of part, as in "dataset check"; extensions list theirs under its plural, DATASET_CHECKS.
        name: key of the part.
        own: parts of the core.

    Raises:
        ValueError: there is no part of this name, or its extension cannot be imported.
    """
    if name in own:
        return own[name]
    extended = collect(f"{noun.upper().replace(' ', '_')}S")
    if name not in extended:
        known = ", ".join([*own, *extended])
        raise ValueError(f"{noun} {name!r} is unknown: {f'use one of {known}' if known else 'none is installed'}")
    return resolve(extended[name])


def resolve(reference: str) -> Any:
    """Import the object that a "module:attribute" reference names.

    Raises:
        ValueError: the module cannot be imported, or it lacks the attribute.
    """
    module, _, attribute = reference.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ValueError(f"{reference} of an extension cannot be imported: {error}; repair or uninstall it") from error
