"""Check that the recipe of the exported layouts opens, draws and collates every dataset of the paper's mixture."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import load_checkpoint
from sa2va.training.recipes import find_recipe, sa2va_internvl3_2b
from sa2va.training.run import train
from sa2va.training.supervised import SupervisedConfig, SupervisedData
from sa2va.world.export.catalog import LAYOUTS
from sa2va.world.export.layout import choose_scenes, export, find_filled


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    scenes = choose_scenes(["train"], None, 1)
    assert list(export(find_filled(LAYOUTS, scenes), root, scenes))
    return root


def recipe_stage() -> SupervisedConfig:
    (stage,) = find_recipe("world_layouts")().stages
    assert isinstance(stage, SupervisedConfig)
    return stage


def test_the_mixture_is_the_papers_and_every_dataset_of_it_is_exported() -> None:
    (paper,) = sa2va_internvl3_2b().stages
    names = [share.name for share in recipe_stage().datasets]
    assert names == [share.name for share in paper.datasets]
    assert set(names) <= {name for layout in LAYOUTS.values() for name in layout.datasets}


def test_every_dataset_is_collated_with_masks_where_it_has_some(root: Path) -> None:
    _, processor = load_checkpoint(find_model("tiny"), torch.device("cpu"), torch.float32)
    (paper,) = sa2va_internvl3_2b().stages
    stage = recipe_stage()
    data = SupervisedData(replace(stage, data=str(root)), processor)
    assert data.config.draw == paper.draw and len(data) == 200
    rows = {str(row["dataset"]): row for row in data.mixture.rows({})}
    weights = {share.name: share.number for share in stage.datasets}
    assert all(row["records"] == 1 for row in rows.values())
    assert {name: row["wanted"] for name, row in rows.items()} == pytest.approx(
        {name: weight / sum(weights.values()) for name, weight in weights.items()}
    )
    for source, name in enumerate(rows):
        batch = data.collate([data[(0, source, 0, 0)]])
        has_masks = name not in ("llava", "videochat", "osprey", "osprey_description")
        assert bool(len(batch.seg_rows)) == has_masks, name
        assert (batch.labels >= 0).any() and batch.counts[f"drawn {name}"] == 1


@pytest.mark.slow
def test_a_short_run_trains_on_the_mixture_and_counts_what_was_drawn(root: Path, tmp_path: Path) -> None:
    words = [f"data={root}", "steps=4", "batch_size=4", "device=cpu", "log_every=1"]
    model = train("world_layouts", words, output=str(tmp_path / "run"), quiet=True)
    assert (model / "model.safetensors").is_file()
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    (*_, last) = [line["table"] for line in lines if "table" in line]
    assert sum(row["samples"] for row in last) == 16
    assert all(loss >= 0 for line in lines for loss in line.get("losses", {}).values())
