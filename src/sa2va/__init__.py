"""Public API of the package: `load`, what extensions add (`load_gaze`), and `__version__`.

Flow: `import sa2va` imports no torch; the first use of a loader imports it and the model code.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa2va.inference.loading import load as load

__all__ = ["__version__", "load"]

__version__ = version("sa2va")


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module("sa2va.inference.loading").load
    if not name.startswith("_"):
        from sa2va.extensions import collect, missing_extensions, resolve

        if reference := collect("FACE").get(name):
            return resolve(reference)
        if missing := missing_extensions():
            raise AttributeError(f"module 'sa2va' has no attribute {name!r}; not installed here: {', '.join(missing)}")
    raise AttributeError(f"module 'sa2va' has no attribute {name!r}")


def __dir__() -> list[str]:
    from sa2va.extensions import collect

    return sorted({*__all__, *collect("FACE")})
