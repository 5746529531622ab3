"""Plan runs, and train and evaluate one for real: killed, resumed, done."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from sa2va.checkpoints.find import find_model
from sa2va.training.supervised import SupervisedConfig, SupervisedRun
from sa2va.world.ablations.arms import ARMS, TABLES
from sa2va.world.ablations.runs import (
    RUNS,
    PlannedRun,
    build_config,
    find_columns,
    key_of,
    list_runs,
    run_all,
    train_arm,
)
from sa2va.world.commands.ablate import AblationChoice
from sa2va.world.export.catalog import LAYOUTS
from sa2va.world.export.layout import choose_scenes, export
from sa2va.world.training.recipes import world_layouts

SETTINGS = AblationChoice(data=Path("data")).settings()


def test_all_arms_of_a_seed_come_before_the_next_and_shared_ones_once() -> None:
    arms = [arm for table in TABLES.values() for arm in table.arms()]
    runs = list_runs(arms, 2, SETTINGS)
    assert [run.seed for run in runs] == [0] * 10 + [1] * 10
    assert len({run.name for run in runs}) == 20 and "refsav_engine-0" not in {run.name for run in runs}
    with_engine = list_runs(arms, 1, replace(SETTINGS, engine=Path("engine")))
    assert {run.arm.name for run in with_engine} == set(ARMS)


def test_a_run_is_the_recipe_of_the_layouts_with_the_mixture_of_its_arm() -> None:
    recipe, run = world_layouts(), build_config(PlannedRun(ARMS["repeat"], 3), SETTINGS)
    assert isinstance(recipe, SupervisedRun)
    changed = {one.name for one in fields(recipe) if getattr(recipe, one.name) != getattr(run, one.name)}
    assert changed == {"name", "seed", "seg_design", "stages", "threads", "device"}
    (theirs,), (ours,) = recipe.stages, run.stages
    assert isinstance(theirs, SupervisedConfig) and isinstance(ours, SupervisedConfig)
    assert (ours.losses, ours.draw, ours.new_tokens) == (theirs.losses, theirs.draw, theirs.new_tokens)
    assert ours.datasets == ARMS["repeat"].datasets() and (run.seed, run.seg_design) == (3, "repeat")
    assert run.origin != recipe.origin


def test_a_key_changes_with_everything_that_decides_the_figures() -> None:
    run = PlannedRun(ARMS["all"], 0)
    others = [(PlannedRun(ARMS["all"], 1), SETTINGS), (PlannedRun(ARMS["repeat"], 0), SETTINGS)]
    others += [(run, replace(SETTINGS, **{name: value})) for name, value in (("steps", 7), ("items", 7), ("lr", 0.1))]
    keys = [key_of(run, SETTINGS), *(key_of(*other) for other in others)]
    assert len(set(keys)) == len(keys) and key_of(run, replace(SETTINGS)) == keys[0]


def test_an_untrained_run_is_made_anew_from_another_start(tmp_path: Path) -> None:
    copy, run, folder = tmp_path / "start", PlannedRun(ARMS["start"], 0), tmp_path / "run"
    shutil.copytree(find_model("tiny"), copy)
    train_arm(run, SETTINGS, folder, quiet=True)
    file = folder / "model" / "model.safetensors"
    before = file.stat().st_mtime_ns
    train_arm(run, SETTINGS, folder, quiet=True)
    assert file.stat().st_mtime_ns == before
    train_arm(run, replace(SETTINGS, start=str(copy)), folder, quiet=True)
    assert file.stat().st_mtime_ns > before


PROGRAM = """
import sys
from pathlib import Path
from sa2va.world.ablations.arms import ARMS
from sa2va.world.ablations.runs import PlannedRun, run_all
from sa2va.world.commands.ablate import AblationChoice
settings = AblationChoice(data=Path(sys.argv[1]), steps=2, batch_size=2, items=1).settings()
print(*run_all([PlannedRun(ARMS["all"], 0)], settings, Path(sys.argv[2]), quiet=True))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_a_finished_one_is_not_repeated(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    wanted = {share.name for share in ARMS["all"].datasets()}
    measured = {column.benchmark.split("/")[0].replace("ref_davis17", "davis") for column in find_columns()}
    layouts = {
        name: layout for name, layout in LAYOUTS.items() if wanted.intersection(layout.datasets) or name in measured
    }
    assert list(export(layouts, data, choose_scenes(["train", "dev"], None, 1)))
    command = [sys.executable, "-c", PROGRAM, str(data), str(out)]
    model, finished = out / "all-0" / "model", out / "all-0" / "finished.json"  # of the training
    with subprocess.Popen(command) as killed:
        while killed.poll() is None and not finished.exists():
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    trained = (model / "model.safetensors").stat().st_mtime_ns
    assert not (out / RUNS).exists()
    subprocess.run(command, check=True)
    settings = AblationChoice(data=data, steps=2, batch_size=2, items=1).settings()
    (line,) = (out / RUNS).read_text().splitlines()
    row = json.loads(line)["record"]
    assert (row["arm"], row["seed"], row["steps"]) == ("all", 0, 2)
    assert set(row["figures"]) == {column.name for column in find_columns()}
    assert (model / "model.safetensors").stat().st_mtime_ns == trained
    told = list(run_all([PlannedRun(ARMS["all"], 0), PlannedRun(ARMS["start"], 0)], settings, out, quiet=True))
    assert told[0] == "all-0: done already" and told[1].startswith("start-0: ")
    (same, start) = (out / RUNS).read_text().splitlines()
    assert same == line
    untrained = json.loads(start)["record"]
    assert (untrained["steps"], untrained["train_s"]) == (0, 0) and untrained["model"] != row["model"]
    assert untrained["start"] == row["start"] and set(untrained["figures"]) == set(row["figures"])
