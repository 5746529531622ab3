"""Draw fewer bootstrap resamples: tests of tables check that intervals are there, tests/metrics how wide they are."""

from collections.abc import Iterator

import pytest

from sa2va.gaze.evaluation import tally


@pytest.fixture(autouse=True, scope="session")
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "NUM_RESAMPLES", 60)
        yield
