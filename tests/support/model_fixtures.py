"""Share one very small Sa2VA, a clip and tracking sessions among all tests of the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small_model import build_model, draw_sample
from support.small_session import build_lively, draw_frames

from sa2va.checkpoints.folder import save_checkpoint
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options
from sa2va.inference.tracking.mask_prompting import GroundedAnswer, MaskPrompting
from sa2va.inference.tracking.session import TrackSession
from sa2va.media.source import open_media
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.types import Sample


@pytest.fixture(scope="session")
def small() -> tuple[Sa2VA, Processor]:
    return build_model()


@pytest.fixture(scope="session")
def folder(small: tuple[Sa2VA, Processor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the small model."""
    model, processor = small
    path = tmp_path_factory.mktemp("model")
    save_checkpoint(model, processor.tokenizer, path, torch.float32)
    return path


@pytest.fixture(scope="session")
def predictor(small: tuple[Sa2VA, Processor]) -> Predictor:
    return Predictor(*small)


@pytest.fixture
def samples() -> list[Sample]:
    return [draw_sample(seed) for seed in range(8)]


@pytest.fixture(scope="session")
def clip() -> np.ndarray:
    return draw_frames()


@pytest.fixture(scope="session")
def lively() -> tuple[Sa2VA, Processor]:
    return build_lively()


@pytest.fixture
def start(lively: tuple[Sa2VA, Processor]) -> Callable[..., TrackSession]:
    """Start a session without a language model, or with one that finds as many objects as asked."""
    model, processor = lively

    def build(source: Any, *, num_found: int | None = None, prompted: int = 0, **how: Any) -> TrackSession:
        states = torch.randn(8, model.mllm.width, generator=torch.Generator().manual_seed(1))

        def ask(frames: np.ndarray, expression: str) -> GroundedAnswer:
            assert frames.shape == (1, 64, 64, 3)
            assert num_found is not None
            return GroundedAnswer(f"about {expression}", states[:num_found, None], [None] * num_found)

        media = open_media(source)
        ask_or_none = None if num_found is None else ask
        session = TrackSession(MaskPrompting(model, Options()), processor, media, ask=ask_or_none, **how)
        if prompted:
            session.prompt(GroundedAnswer("", states[:prompted, None], [None] * prompted), [0, 1], media.peek(2))
        return session

    return build
