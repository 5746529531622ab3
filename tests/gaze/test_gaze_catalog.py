from sa2va.gaze.catalog import DATASETS, METRICS
from sa2va.gaze.metrics import sequence
from sa2va.gaze.statistics import EXPECTED


def test_every_entry_can_be_read() -> None:
    for name, metric in METRICS.items():
        assert callable(metric.function) and metric.function.__doc__, name
        assert metric.better in {"higher", "lower", "human"}, name
        assert metric.low < metric.high, name
        assert metric.unit and metric.source, name


def test_names_lead_to_functions() -> None:
    assert METRICS["SS"].function is sequence.sequence_score
    assert METRICS["FED"].function([1, 2], [[1, 2]]) == 0


def test_every_dataset_is_named_where_its_figures_are() -> None:
    assert set(DATASETS) == set(EXPECTED)
