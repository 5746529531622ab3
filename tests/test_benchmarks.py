"""Test that benchmarks run end to end at tiny sizes; their figures are no tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.stored_layouts import SIZE, rectangle_mask, write_json, write_picture

from sa2va.data.catalog import build_dataset
from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.benchmarks.own import own

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run_benchmark(script: str, *arguments: str, expect: int | None = 0) -> str:
    """Run a script and return what it prints; exit status 1 means that a bar is missed."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect or (expect is None and done.returncode in (0, 1)), done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_peers_agree(tmp_path: Path) -> None:
    """The loop over stock modules gives our masks in float32; a second run measures nothing again."""
    arguments = ("--size", "tiny", "--dtype", "float32", "--row", "clip", "second", "--work", str(tmp_path))
    first = run_benchmark("peers.py", *arguments)
    assert first.count("IoU of the masks: 1 (bar: at least 0.999) holds") == 2
    assert run_benchmark("peers.py", *arguments) == first


@pytest.mark.slow
def test_operations_are_counted() -> None:
    """The pretended GPU, which stands on private parts of PyTorch, traces and fuses with the installed version."""
    counted = run_benchmark("operations.py", "--sam", "tiny", "--part", "encoder", "waits", expect=None)
    assert "| encoder, hiera-tiny |" in counted and "frame, host waits" in counted


@pytest.mark.slow
def test_bulk_is_timed() -> None:
    printed = run_benchmark("bulk_throughput.py", *"--through shards --workers 1 --batch 2 --parts 3".split())
    assert "| 1 | 2 | " in printed and "pictures/s" in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_the_gpu_script_refuses_a_machine_without_one(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable, "OUT": str(tmp_path)}
    command = ["bash", str(BENCHMARKS / "gpu.sh")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2 and done.stdout == ""
    assert "finds no GPU" in done.stderr and done.stderr.count("\n") == 1


def test_rows_that_a_data_type_leaves_empty_are_refused() -> None:
    command = [sys.executable, str(BENCHMARKS / "peers.py"), "--row", "clips", "long", "--dtype", "float32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--dtype is float32, which these rows are not measured in" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "train_step.py --batch 4 --repeats 1",
        "clip_requests.py --frames 3 --requests 2 --repeats 1",
        "video_speed.py --model hiera-tiny --side 256 --frames 9 --dtype float32 --objects 1",
    ],
)
def test_parts_of_the_gpu_script_run(command: str) -> None:
    """The other parts that only gpu.sh runs end in a table."""
    assert run_benchmark(*command.split(), expect=None).startswith("## `python benchmarks/")


def test_written_expressions_become_own_data(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "in/photos/a.jpg")
    ids = np.zeros((*SIZE, 3), np.uint8)
    ids[2:9, 3:8] = (5, 1, 0)
    Image.fromarray(ids).save(picture.with_suffix(".png"))
    for name in ("0", "1"):
        write_picture(tmp_path / f"in/clips/walk/frames/{name}.jpg")
        (tmp_path / "in/clips/walk/masks").mkdir(exist_ok=True)
        Image.fromarray(rectangle_mask(2, 3, 10, 12)).save(tmp_path / f"in/clips/walk/masks/{name}.png")
    still = {"image": "photos/a.jpg", "mask": "photos/a.png", "encoding": "panoptic_rgb"}
    moving = {"frames": "clips/walk/frames", "masks": "clips/walk/masks", "encoding": "pixel_value"}
    items = [still | {"ids": [261], "expressions": ["the box"]}, moving | {"ids": [255], "expressions": ["the dog"]}]
    write_json(tmp_path / "in/annotations/referring.json", {"items": items})
    run_benchmark("written_expressions.py", str(tmp_path / "in"), str(tmp_path / "out"))
    for folder, key, area in (("pictures", "a.jpg/the box", 35), ("clips", "walk/the dog", 144)):
        benchmark = own(Selection(split="all", root=tmp_path / "out" / folder))
        item = benchmark.load(0)
        assert benchmark.ids == [key]
        assert sum(item.truth(frame).sum() for frame in range(item.num_frames)) == area


def test_clips_with_dense_masks_become_ref_davis17(tmp_path: Path) -> None:
    masks = np.zeros((3, 8, 12), np.uint8)
    masks[1:, 2:5, 3:9] = 255
    for number, mask in enumerate(masks):
        for folder, picture in (("frames", np.repeat(mask[..., None], 3, 2)), ("masks", mask)):
            for clip, counted in (("dense", True), ("sparse", folder == "frames" or not number)):
                place = tmp_path / "vos" / clip / folder / f"{number:05d}.{'jpg' if folder == 'frames' else 'png'}"
                place.parent.mkdir(parents=True, exist_ok=True)
                if counted:
                    Image.fromarray(picture).save(place)
    items = [
        {"frames": f"vos/{clip}/frames", "masks": f"vos/{clip}/masks", "ids": [255], "expressions": ["it", "the box"]}
        for clip in ("dense", "sparse")
    ]
    file = tmp_path / "annotations/referring.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"items": [{"image": "a.jpg"}, *items]}))
    said = run_benchmark("davis_layout.py", str(file), str(tmp_path / "data"))
    assert said == "dense: 3 frames, 2 expressions of 1 objects\nsparse: left out, 1 masks for 3 frames\n"
    dataset = build_dataset("ref_davis17", tmp_path / "data/video_datas/davis17", split="valid")
    (record,) = dataset.records
    assert [(one.text, one.annotator) for one in record.expressions] == [("it", 0), ("the box", 1)]
    assert np.array_equal(record.tracks.masks([0], range(3))[0], masks > 0)
    run_benchmark("davis_layout.py", str(file), str(tmp_path / "data"), expect=2)
