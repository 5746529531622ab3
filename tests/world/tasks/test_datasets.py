"""Check that every task of the drawn world is a dataset of the catalog."""

from sa2va.data.base import Dataset
from sa2va.data.catalog import build_dataset
from sa2va.world import extension
from sa2va.world.tasks.catalog import TASKS


def test_every_task_is_a_dataset() -> None:
    assert list(extension.DATASETS) == [f"world/{task}" for task in TASKS]
    for name in extension.DATASETS:
        dataset = build_dataset(name, seed=1, split="val")
        assert isinstance(dataset, Dataset)
        assert dataset[0].task == name
    assert len(build_dataset("world/refseg", num_turns=1, empty_share=0)[0].turns) == 1
