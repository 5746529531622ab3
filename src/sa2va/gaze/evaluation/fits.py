"""Cache trained baselines on disk, so that an interrupted evaluation resumes.

Flow: folder, settings, source files -> kept(make) -> the cached tensors and facts, or new ones.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sa2va.checkpoints.shards import save_tensors
from sa2va.evaluation.stamp import PACKAGE, hash_sources

Learned = tuple[dict[str, Tensor], dict[str, Any]]  # tensors by name, facts for JSON


@dataclass(frozen=True)
class Fits:
    """A folder of cached fits; None disables the cache."""

    folder: Path | None
    signature: str = ""  # of the training data

    def kept(self, name: str, settings: Any, sources: Sequence[str], make: Callable[[], Learned]) -> Learned:
        """Return a cached fit, or make it.

        Args:
            name: Prefix of the file name.
            settings: Settings that determine the result, compared by repr.
            sources: Files and folders of the package whose code determines the result.
            make: Trains the fit.
        """
        if self.folder is None:
            return make()
        key = f"{self.signature}\n{settings!r}\n{code_hash(sources)}"
        path = self.folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
        if path.exists():
            try:
                with safe_open(path, "pt") as file:
                    tensors = {key: file.get_tensor(key) for key in file.keys()}
                    return tensors, json.loads((file.metadata() or {})["facts"])
            except (OSError, SafetensorError, KeyError, ValueError) as error:
                raise ValueError(f"{path}: cannot be read ({error}); delete it, and the run makes it again") from error
        tensors, facts = make()
        save_tensors(path, tensors, {"facts": json.dumps(facts)})
        return tensors, facts


def code_hash(sources: Sequence[str]) -> str:
    """Hash the code of files and folders of the package."""
    places = [PACKAGE / source for source in sources]
    return hash_sources(path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place]))
