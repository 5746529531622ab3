"""Share one very small Sa2VA among all tests of the model."""

import pytest
from small_model import build_model, draw_sample

from sa2va.model.predictor import Predictor
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.types import Sample


@pytest.fixture(scope="session")
def small() -> tuple[Sa2VA, Processor]:
    return build_model()


@pytest.fixture(scope="session")
def predictor(small: tuple[Sa2VA, Processor]) -> Predictor:
    return Predictor(*small)


@pytest.fixture
def samples() -> list[Sample]:
    return [draw_sample(seed) for seed in range(8)]
