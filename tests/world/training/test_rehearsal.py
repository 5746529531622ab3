"""Check that fine-tuning of the embedded model rehearses the drawn world, and only that model."""

from pathlib import Path

import torch
from support.own_pictures import write_squares
from support.small_model import build_model

from sa2va.training.adapt import AdaptData
from sa2va.training.finetune import configure


def test_fine_tuning_of_the_embedded_model_rehearses_drawn_scenes(tmp_path: Path) -> None:
    data = str(write_squares(tmp_path))
    run = configure("light", data, "tiny", ["datasets.world/gcg.weight=0", "steps=10"])
    shares = {share.name: share.number for share in run.last.datasets}
    assert shares == {"world/refseg": 0.6, "world/gcg": 0, "world/region": 0.2}
    _, processor = build_model()
    stage = run.describe_stage(run.stages[0])
    drawn = AdaptData(stage, processor)  # ty: ignore[invalid-argument-type]
    tasks = [drawn[key].sample.task for step in range(10) for key in drawn.keys(step)]
    assert 0.4 < tasks.count("own") / len(tasks) < 0.7
    assert tasks.count("world/refseg") > 10 and "world/gcg" not in tasks
    assert torch.is_tensor(drawn.collate([drawn[key] for key in drawn.keys(0)]).seg_targets)


def test_other_models_rehearse_nothing_by_default(tmp_path: Path) -> None:
    assert configure("light", str(write_squares(tmp_path)), "some/model", []).last.datasets == ()
    assert configure("deep", str(write_squares(tmp_path)), "tiny", []).last.datasets == ()
