"""Check that evaluation exports what is missing once, and refuses other scenes."""

import json
from pathlib import Path

import pytest

from sa2va.apps.commands.eval import export_missing
from sa2va.world.export import evaluation
from sa2va.world.export.catalog import LAYOUTS
from sa2va.world.export.evaluation import export_evaluation
from sa2va.world.export.layout import record_of
from sa2va.world.scenes.splits import DEV

NAMES = ["refytvos", "region_caption"]


@pytest.fixture(autouse=True)
def few_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "LAYOUTS", {name: LAYOUTS[name] for name in ["llava", *NAMES]})


def test_what_is_missing_is_exported_once_with_all_masks(tmp_path: Path) -> None:
    assert list(export_evaluation(tmp_path, split="dev", seed=None, num_items=1)) == NAMES
    record = json.loads((tmp_path / record_of("refytvos")).read_text())
    assert record == {"valid": {"split": DEV.name, "seed": DEV.seed, "num_items": 1, "with_server_masks": True}}
    assert (tmp_path / "video_datas/rvos/valid/Annotations").is_dir()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert list(export_evaluation(tmp_path, split="dev", seed=None, num_items=1)) == []
    export_missing(tmp_path, "dev", None, 1, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_stopped_export_goes_on(tmp_path: Path) -> None:
    assert next(export_evaluation(tmp_path, split="dev", seed=3, num_items=1)) == NAMES[0]
    assert list(export_evaluation(tmp_path, split="dev", seed=3, num_items=1)) == NAMES[1:]


def test_other_scenes_and_other_files_are_refused(tmp_path: Path) -> None:
    list(export_evaluation(tmp_path, split="dev", seed=None, num_items=1))
    with pytest.raises(ValueError, match=r"refytvos.json: drawn with .*num_items 1,.*; expected .*num_items 2,"):
        list(export_evaluation(tmp_path, split="dev", seed=None, num_items=2))
    with pytest.raises(ValueError, match="choose another folder, or evaluate what is there with --data"):
        list(export_evaluation(tmp_path, split="report", seed=None, num_items=1))
    with pytest.raises(ValueError, match="split 'train' is unknown: use one of dev, report"):
        list(export_evaluation(tmp_path / "new", split="train", seed=None, num_items=1))
    other = tmp_path / "other"
    (other / "video_datas/rvos").mkdir(parents=True)
    (other / "video_datas/rvos/mine").write_text("mine")
    with pytest.raises(ValueError, match="rvos': is there already"):
        list(export_evaluation(other, split="dev", seed=None, num_items=1))
