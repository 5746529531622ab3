import numpy as np
import pytest
from gaze.support.recorded_gaze import packs_of, recorded_cases
from sklearn.cluster import MeanShift

from sa2va.gaze.metrics.clusters import DEFAULT_BANDWIDTH, fit_clusters, mean_shift


def test_three_places_are_found() -> None:
    rng = np.random.default_rng(0)
    places = np.array([[50, 50], [250, 160], [450, 280]])
    paths = [(places[[0, 1, 2, 0, 1]] + rng.normal(0, 3, (5, 2))) for _ in range(4)]
    clusters = fit_clusters(paths)
    assert len(clusters.centers) == 3
    distances = np.linalg.norm(clusters.centers[:, None] - places[None], axis=-1)
    assert distances.min(0).max() < 4
    assert clusters.bandwidth > 0


@pytest.mark.parametrize("bandwidth", [12.0, 30.0, 90.0])
@pytest.mark.parametrize("num_points", [1, 7, 80])
def test_it_is_mean_shift(num_points: int, bandwidth: float) -> None:
    rng = np.random.default_rng(num_points)
    points = rng.normal(rng.choice([60.0, 160.0, 260.0], (num_points, 1)), 25, (num_points, 2))
    expected = MeanShift(bandwidth=bandwidth).fit(points).cluster_centers_
    assert mean_shift(points, bandwidth) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("paths", [[[[5, 6]]], [[[5, 6], [5, 6]], []], [[[5, 6]], [[5, 6]]]])
def test_one_place(paths: list) -> None:
    clusters = fit_clusters(paths)
    assert clusters.centers.tolist() == [[5, 6]]
    assert clusters.bandwidth == DEFAULT_BANDWIDTH


@pytest.mark.parametrize("paths", [[], [[], []]])
def test_nothing_to_cluster(paths: list) -> None:
    with pytest.raises(ValueError, match="no fixations"):
        fit_clusters(paths)


@pytest.mark.parity
@pytest.mark.parametrize("num_cases", [10, pytest.param(130, marks=pytest.mark.slow)])
def test_recorded_centers(num_cases: int) -> None:
    """Those with the fewest fixations first, because mean shift is slow."""
    cases = sorted((case for case, _ in recorded_cases()), key=lambda case: len(str(case["human"])))[:num_cases]
    for case in cases:
        clusters = fit_clusters([np.concatenate(packs_of(human)) for human in case["human"]])
        assert np.allclose(clusters.centers, case["cluster_centers"], atol=1e-9)
        assert clusters.bandwidth == pytest.approx(case["bandwidth"], abs=1e-9)
