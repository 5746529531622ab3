"""Check the installation: imports of required libraries, versions of extras.

Flow: REQUIRED, EXTRAS -> inspect_installation -> Part (version, or problem and fix) -> commands/doctor.py.
"""

import platform
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

REQUIRED = {
    "torch": "torch",
    "transformers": "transformers",
    "numpy": "numpy",
    "pillow": "PIL",
    "av": "av",
    "opencv-python-headless": "cv2",
    "pycocotools": "pycocotools.mask",
    "safetensors": "safetensors",
    "tokenizers": "tokenizers",
}
EXTRAS = {"bitsandbytes": "quantize", "accelerate": "spread", "peft": "adapter", "sentencepiece": "convert"}


@dataclass(frozen=True)
class Part:
    """One library."""

    name: str
    version: str | None  # None = not installed
    problem: str | None = None  # in one line, with the fix
    extra: str | None = None  # the optional extra that it belongs to

    @property
    def is_broken(self) -> bool:
        """Whether a required library fails to import, or an installed optional one has a problem."""
        return self.problem is not None and (self.extra is None or self.version is not None)


def inspect_installation() -> list[Part]:
    """Import every required library, and look up the versions of those of the extras."""
    parts = [Part("Python", platform.python_version())]
    parts += [try_import(name, module, "pip install --force-reinstall sa2va") for name, module in REQUIRED.items()]
    for name, extra in EXTRAS.items():
        number = find_version(name)
        hint = None if number else f"optional: pip install 'sa2va[{extra}]'"
        parts.append(Part(name, number, hint, extra))
    # Not required, but Transformers imports it if it is installed, and fails if it was built for another torch.
    if find_version("torchvision"):
        parts.append(try_import("torchvision", "torchvision", "pip uninstall torchvision, which is not needed"))
    return parts


def try_import(name: str, module: str, fix: str) -> Part:
    """Import a module and return the library's version or problem."""
    number = find_version(name)
    try:
        import_module(module)
    except Exception as error:  # an import can fail in any way, and each is to be reported
        reason = " ".join(str(error).split())
        return Part(name, number, f"cannot be imported ({type(error).__name__}: {reason}); {fix}")
    return Part(name, number or "unknown")


def find_version(name: str) -> str | None:
    """Return the version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
