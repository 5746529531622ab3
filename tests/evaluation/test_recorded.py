"""Check that predictions of other programs score like the answers they were written from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.clip_answers import answer_right, answer_with, build_clips, items_of
from support.stored_clips import frame_names, rle_track, track
from support.stored_layouts import write_json

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark
from sa2va.evaluation.recorded import read_recorded


def submit(benchmark: Benchmark[Any], folder: Path) -> dict[str, list[Answer]]:
    """Write the archive of random answers, and return the answers by item."""
    rng = np.random.default_rng(0)
    answers = {}
    for item in items_of(benchmark):
        shape = (2, item.record.num_frames, *item.size)
        answers[item.id] = [answer_with(rng.random(shape) < 0.3) for _ in item.expressions]
    assert benchmark.submit is not None
    benchmark.submit(folder, ((item, answers[item.id]) for item in items_of(benchmark)))
    return answers


def list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_mevis_packs_clips_without_a_folder_above(tmp_path: Path) -> None:
    benchmark = build_clips("mevis/valid", tmp_path, limit=4)
    answers = submit(benchmark, tmp_path / "out")
    files = list_files(tmp_path / "out")
    assert files == sorted(f"ab/{one}/{name}.png" for one in ("0", "1", "2", "10") for name in frame_names())
    with Image.open(tmp_path / "out/ab/10/00005.png") as picture:
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), 255 * answers["ab/10"][0].union_at(1))


def test_refytvos_packs_clips_below_annotations(tmp_path: Path) -> None:
    benchmark = build_clips("refytvos/valid", tmp_path, limit=1)
    submit(benchmark, tmp_path / "out")
    assert list_files(tmp_path / "out") == [f"Annotations/ab/0/{name}.png" for name in frame_names()]


def test_davis_packs_index_pictures_by_annotator(tmp_path: Path) -> None:
    benchmark = build_clips("ref_davis17/valid", tmp_path, limit=4)
    assert benchmark.submit is not None
    benchmark.submit(tmp_path / "out", [(item, answer_right(item)) for item in items_of(benchmark)])
    assert list_files(tmp_path / "out")[:2] == ["anno_0/ab/00000.png", "anno_0/ab/00005.png"]
    with Image.open(tmp_path / "out/anno_3/ab/00010.png") as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture), track(0)[2] + 2 * track(1)[2])


@pytest.mark.parametrize("name", ["mevis/valid_u", "revos/valid", "refsav/valid", "refytvos/valid"])
@pytest.mark.parametrize("level", ["", "Annotations"])
def test_pictures_score_like_the_answers(tmp_path: Path, name: str, level: str) -> None:
    benchmark = build_clips(name, tmp_path)
    answers = submit(benchmark, tmp_path / "out")
    below = tmp_path / "out/Annotations"
    if level and not below.exists():
        (tmp_path / "other").mkdir()
        (tmp_path / "out").rename(tmp_path / "other/Annotations")
        (tmp_path / "other").rename(tmp_path / "out")
    recorded = read_recorded(benchmark, tmp_path / "out" if level or not below.exists() else below)
    assert list(recorded) == list(benchmark.ids)
    for item in items_of(benchmark):
        own, other = benchmark.score(item, answers[item.id]), benchmark.score(item, recorded[item.id])
        keys = {"j", "f", "a", "r", "curve"} & own.keys()
        assert {key: own[key] for key in keys} == {key: other[key] for key in keys}


def test_index_pictures_of_annotators_score_like_right_answers(tmp_path: Path) -> None:
    benchmark = build_clips("ref_davis17/valid", tmp_path)
    assert benchmark.submit is not None
    benchmark.submit(tmp_path / "out", [(item, answer_right(item)) for item in items_of(benchmark)])
    recorded = read_recorded(benchmark, tmp_path / "out")
    records = [benchmark.score(item, recorded[item.id]) for item in items_of(benchmark)]
    assert {one.value for one in benchmark.summarize(records) if "decay" not in one.name} == {1.0}


def write_results(benchmark: Benchmark[Any], file: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for item in items_of(benchmark):
        for one in item.expressions:
            rles = [rle or {"size": [24, 32], "counts": [24 * 32]} for rle in rle_track(one.objects[0])]
            entry = {"exp": one.text, "text_prediction": "Sure, [SEG].", "prediction_masks": rles}
            results.setdefault(item.record.video, {})[one.id] = entry
    write_json(file, results)
    return results


def test_results_of_the_released_evaluation(tmp_path: Path) -> None:
    benchmark = build_clips("ref_davis17/valid", tmp_path)
    write_results(benchmark, tmp_path / "out/results.json")
    for place in (tmp_path / "out", tmp_path / "out/results.json"):
        recorded = read_recorded(benchmark, place)
        assert recorded["cd/anno_1"][0].text == "Sure, [SEG]."
        records = [benchmark.score(item, recorded[item.id]) for item in items_of(benchmark)]
        assert {one.value for one in benchmark.summarize(records) if "decay" not in one.name} == {1.0}


def test_missing_items_are_named(tmp_path: Path) -> None:
    benchmark = build_clips("mevis/valid_u", tmp_path)
    submit(benchmark, tmp_path / "out")
    (tmp_path / "out/cd/10/00005.png").unlink()
    for file in (tmp_path / "out/ef/1").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"no prediction of 2 of the 12 items of mevis/valid_u: cd/10, ef/1; write an"):
        read_recorded(benchmark, tmp_path / "out")
    with pytest.raises(ValueError, match=r"void: there is no such folder of predictions$"):
        read_recorded(benchmark, tmp_path / "void")


def test_missing_expressions_of_results_are_named(tmp_path: Path) -> None:
    benchmark = build_clips("ref_davis17/valid", tmp_path)
    results = write_results(benchmark, tmp_path / "results.json")
    del results["ab"]["5"], results["ef"]
    write_json(tmp_path / "results.json", results)
    with pytest.raises(ValueError, match=r"of 5 of the 12 items of ref_davis17/valid: ab/anno_1, ef/anno_0, ef/anno_1"):
        read_recorded(benchmark, tmp_path / "results.json")


def test_masks_of_another_clip_are_refused(tmp_path: Path) -> None:
    benchmark = build_clips("ref_davis17/valid", tmp_path)
    results = write_results(benchmark, tmp_path / "results.json")
    results["ab"]["0"]["prediction_masks"].pop()
    write_json(tmp_path / "results.json", results)
    item = benchmark.load(0)
    with pytest.raises(ValueError, match="5 frames of 32x24, its clip 6"):
        benchmark.score(item, read_recorded(benchmark, tmp_path / "results.json")[item.id])
    results["ab"]["0"]["prediction_masks"] = json.loads('[{"size": [24, 32]}]')
    write_json(tmp_path / "results.json", results)
    with pytest.raises(ValueError, match=r"results.json: video ab, expression 0: segmentation has run lengths"):
        read_recorded(benchmark, tmp_path / "results.json")[item.id]


def test_a_folder_may_hold_several_benchmarks(tmp_path: Path) -> None:
    davis = build_clips("ref_davis17/valid", tmp_path)
    write_results(davis, tmp_path / "work/DAVIS/results.json")
    mevis = build_clips("mevis/valid_u", tmp_path)
    answers = submit(mevis, tmp_path / "work/mevis-valid_u")
    assert read_recorded(davis, tmp_path / "work")["ab/anno_0"][1].num_frames == 6
    found = read_recorded(mevis, tmp_path / "work")["ef/2"][0]
    assert np.array_equal(found.union_at(3), answers["ef/2"][0].union_at(3))


def test_results_may_have_several_masks_or_none(tmp_path: Path) -> None:
    benchmark = build_clips("mevis/valid_u", tmp_path, limit=4)
    several: list[Any] = [[], [rle_track(0), rle_track(1)], [], [None] * 6]
    results = {
        "ab": {one: {"prediction_masks": masks} for one, masks in zip(("0", "1", "2", "10"), several, strict=True)}
    }
    recorded = read_recorded(benchmark, write_json(tmp_path / "results.json", results))
    records = [benchmark.score(item, recorded[item.id]) for item in items_of(benchmark)]
    assert [one["num_objects"] for one in records] == [0, 2, 0, 1]
    assert [one["score"] for one in records] == [0.0, 1.0, 1.0, pytest.approx(1 / 6)]
