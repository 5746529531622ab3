"""Show the only face of the package: `sa2va.load`, `sa2va.load_gaze` where gaze is there, and `sa2va.__version__`.

Flow: import sa2va costs nothing; the first use of a loader brings in torch and the model.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa2va.gaze.predictor import load_gaze as load_gaze
    from sa2va.inference.loading import load as load

__all__ = ["__version__", "load"]  # and load_gaze, of an extension that may be left out

__version__ = version("sa2va")

_LAZY = {"load": "sa2va.inference.loading", "load_gaze": "sa2va.gaze.predictor"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'sa2va' has no attribute {name!r}")
    try:
        return getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in ("sa2va.gaze", "sa2va.gaze.predictor"):
            raise
        raise AttributeError("module 'sa2va' has no attribute 'load_gaze': its folder gaze was left out") from error


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY})
