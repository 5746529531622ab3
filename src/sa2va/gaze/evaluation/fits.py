"""Keep what rivals have learned beside what they learned from, so that a killed evaluation goes on from there.

Flow: folder, what decides the result -> kept(make) -> the tensors and facts that an earlier call left, or new ones.
Shapes: none.
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
    """A folder of results; None keeps nothing."""

    folder: Path | None
    signature: str = ""  # of what everybody learns from

    def kept(self, name: str, settings: Any, sources: Sequence[str], make: Callable[[], Learned]) -> Learned:
        """Read what was made in the same way before, or make it.

        Args:
            name: of the file.
            settings: whatever decides the result; its text counts.
            sources: files and folders of the package whose code decides it as well.
            make: learns anew.
        """
        if self.folder is None:
            return make()
        told = f"{self.signature}\n{settings!r}\n{code_hash(sources)}"
        path = self.folder / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
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
    """Tell versions of files and folders of the package apart by their code."""
    places = [PACKAGE / source for source in sources]
    return hash_sources(path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place]))
