"""Find recorded metric inputs and outputs, and real gaze, beside the repository; skip where they are absent."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BESIDE = Path(__file__).resolve().parents[3] / "shared"
METRICS = BESIDE / "golden" / "gaze_metrics"
REFCOCO_GAZE = BESIDE / "data" / "refcoco_gaze"
OSIE = BESIDE / "data" / "media" / "osie_gaze"


def recorded(path: Path) -> Path:
    """The path, or a skipped test."""
    if not path.exists():
        pytest.skip(f"no recordings at {path}")
    return path


def read_json(path: Path) -> Any:
    return json.loads(recorded(path).read_text())


def recorded_cases() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(input, output) of each recorded case."""
    inputs = read_json(METRICS / "inputs.json")["cases"]
    return list(zip(inputs, read_json(METRICS / "outputs.json")["cases"], strict=True))


def packs_of(record: dict[str, Any]) -> list[np.ndarray]:
    """Packs (K, 2) xy of a recorded scanpath."""
    return [np.array([x, y], float).T.reshape(-1, 2) for x, y in zip(record["X"], record["Y"], strict=True)]
