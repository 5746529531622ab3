"""Show the only face of the package: `sa2va.load` and `sa2va.__version__`.

Flow: import sa2va costs nothing; the first use of `load` brings in torch and the model.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa2va.model.loading import load as load

__all__ = ["__version__", "load"]

__version__ = version("sa2va")

_LAZY = {"load": "sa2va.model.loading"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'sa2va' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
