"""Test that a run answers each item once, with the same bytes however it is divided."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.bulk_files import SETTINGS, finish, run, start, write_expressions, write_media
from support.own_process import contents
from support.toy_predictor import ToyPredictor

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq

from sa2va.bulk.plan import ITEMS, Plan, start_plan
from sa2va.bulk.sources import Store
from sa2va.bulk.worker import Worker, answer_blocks
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options
from sa2va.masks import decode_rle


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return write_media(tmp_path / "media")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return write_expressions(tmp_path / "texts.txt")


def test_rows(media: Path, texts: Path, tmp_path: Path) -> None:
    """Six files with two expressions each, in four parts."""
    run(media, texts, tmp_path / "out")
    files = sorted((tmp_path / "out" / "parts").iterdir())
    assert [path.name for path in files] == [f"{block:06d}.parquet" for block in range(4)]
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert [(row["file"], row["expression"]) for row in rows] == [
        (name, text)
        for name in ("broken.jpg", "more/p1.png", "more/p3.png", "moving.gif", "p0.png", "p2.png")
        for text in ("the dark box", "nothing")
    ]
    broken, absent, found, clip = rows[0], rows[3], rows[2], rows[6]
    assert broken["error"].startswith("broken.jpg: the picture cannot be decoded") and broken["text"] is None
    assert absent["text"] == "There is no nothing." and absent["objects"] == [] and absent["error"] is None
    (box,) = found["objects"]
    assert (box["id"], box["phrase"], box["presence"], box["score"]) == (1, None, 0.97, 0.88)
    (frame,) = box["frames"]
    mask = decode_rle({"size": [found["height"], found["width"]], "counts": frame["counts"]})
    expected = np.zeros((12, 16), bool)
    expected[2:6, 3:7] = True
    assert np.array_equal(mask, expected)
    assert frame == {"score": 0.88, "bbox": [3, 2, 4, 4], "area": 16, "counts": frame["counts"]}
    assert clip["num_frames"] == 3 and len(clip["objects"][0]["frames"]) == 3


def test_the_bytes_do_not_depend_on_shards_or_order(media: Path, texts: Path, tmp_path: Path) -> None:
    expected = run(media, texts, tmp_path / "one")
    plan, job = start(media, texts, tmp_path / "three")
    for blocks in ([1, 3], [2], [0]):  # processes that know nothing of each other
        assert sum(done.num_items for done in answer_blocks(job, blocks)) == 3 * len(blocks)
    finish(plan, job)
    assert contents(tmp_path / "three") == expected
    finish(plan, job)  # nothing to do
    assert contents(tmp_path / "three") == expected


def test_a_part_is_never_written_twice(media: Path, texts: Path, tmp_path: Path) -> None:
    plan, job = start(media, texts, tmp_path / "out")
    worker = Worker(job)
    first = worker.run(0)
    stamp = plan.part(0).stat().st_mtime_ns
    worker.model = None  # not asked again
    assert worker.run(0) == first and (first.num_items, first.num_failed) == (3, 2)
    assert plan.part(0).stat().st_mtime_ns == stamp and plan.todo() == [1, 2, 3]


def test_the_list_of_items_is_fixed_at_the_start(media: Path, texts: Path, tmp_path: Path) -> None:
    expected = run(media, texts, tmp_path / "out")
    (media / "p9.png").write_bytes((media / "p0.png").read_bytes())
    assert run(media, texts, tmp_path / "out") == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [({"settings": {"model": "other"}}, "model 'toy', not 'other'"), ({"block": 5}, "block 3, not 5")],
)
def test_other_settings_need_another_folder(
    media: Path, texts: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    start(media, texts, tmp_path / "out")
    with pytest.raises(ValueError, match=f"holds a run with {message}; choose another folder"):
        start(media, texts, tmp_path / "out", **change)


def test_a_folder_of_a_user_is_refused(media: Path, texts: Path, tmp_path: Path) -> None:
    before = contents(media)
    with pytest.raises(ValueError, match="expected a new or empty folder; it holds other files, such as .hidden.png"):
        start(media, texts, media)
    with pytest.raises(ValueError, match="it is a file"):
        start(media, texts, texts)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ITEMS).write_bytes(b"mine")
    with pytest.raises(ValueError, match="items.parquet: cannot be read"):
        start(media, texts, tmp_path / "out")
    pq.write_table(pq.read_table(start(media, texts, tmp_path / "other")[0].folder / ITEMS).replace_schema_metadata(),
                   tmp_path / "out" / ITEMS)  # fmt: skip
    with pytest.raises(ValueError, match="was not written by sa2va bulk"):
        start(media, texts, tmp_path / "out")
    assert contents(media) == before


def test_processes_that_start_together_agree_on_the_items(tmp_path: Path) -> None:
    """Each lists other items; the first list to be written holds for all."""
    barrier, plans = threading.Barrier(4), []

    def begin(number: int) -> None:
        def list_items() -> list[tuple[str, str]]:
            barrier.wait()
            return [(f"{number}.jpg", "dogs")] * (number + 1)

        plans.append(start_plan(tmp_path / "out", SETTINGS, list_items, 2))

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({plan.key for plan in plans}) == 1 and len({str(plan.read(0)) for plan in plans}) == 1


def test_a_batch_that_does_not_fit_is_halved(
    predictor: Predictor, media: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device with room for one request gives the rows of a larger one; without any room each item fails."""
    (media / "moving.gif").unlink()
    how: Any = {"load": lambda: predictor, "batch": 4, "options": Options(max_new_tokens=3)}
    expected = run(media, texts, tmp_path / "enough", **how)
    sizes, room, answer = [], 1, predictor.engine.answer

    def answer_or_fail(queries: list[Any]) -> Any:
        sizes.append(len(queries))
        if len(queries) > room:
            raise torch.OutOfMemoryError("injected")
        return answer(queries)

    monkeypatch.setattr(predictor.engine, "answer", answer_or_fail)
    assert run(media, texts, tmp_path / "little", **how) == expected
    assert {1, 2} <= set(sizes)
    room = 0
    run(media, texts, tmp_path / "none", **how)
    failures = [json.loads(line) for line in (tmp_path / "none" / "failures.jsonl").read_text().splitlines()]
    assert len(failures) == Plan(tmp_path / "none").num_items == 10
    assert sum("out of memory" in one["error"] for one in failures) == 8


def test_a_file_is_opened_once_a_batch(media: Path, tmp_path: Path) -> None:
    """Expressions about one picture share it, also across two batches."""
    plan, job = start(media / "more", write_expressions(tmp_path / "t.txt", "a", "b", "c"), tmp_path / "out", block=6)
    opened = []

    class CountingStore(Store):
        def open(self, name: str) -> Any:
            opened.append(name)
            return super().open(name)

    worker = Worker(replace(job, store=CountingStore(job.store.filesystem, job.store.root)))
    assert len(worker.answer(plan.read(0))) == 6
    assert sorted(opened) == ["p1.png", "p3.png"]


def test_a_fault_of_the_model_ends_the_run(media: Path, texts: Path, tmp_path: Path) -> None:
    """Only bad input is a failed item; the parts so far stay, and the next run goes on there."""

    class Faulty(ToyPredictor):
        def predict(self, media: Any, prompt: str, **how: Any) -> Any:
            if "moving" in media.name:
                raise RuntimeError("a kernel failed")
            return super().predict(media, prompt, **how)

    plan, job = start(media, texts, tmp_path / "out", load=Faulty)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        finish(plan, job)
    assert plan.todo() == [2, 3]
    assert run(media, texts, tmp_path / "out") == run(media, texts, tmp_path / "other")
