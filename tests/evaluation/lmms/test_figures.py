"""Check that our runner and lmms-eval's own evaluator give the same figures, and right answers the highest ones."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation.lmms.conftest import Talker, guess, picture, write

from sa2va.evaluation.benchmark import Benchmark, Figure, Selection
from sa2va.evaluation.benchmarks import chat
from sa2va.evaluation.lmms import harness
from sa2va.evaluation.runner import run
from sa2va.files.parquet import list_tables

lmms_eval = pytest.importorskip("lmms_eval")

Build = Callable[[Selection], Benchmark[Any]]
# Our benchmark, its split -> task of lmms-eval, its folder, the place and split of the data, {our figure: its metric}
TASKS: dict[tuple[Build, str], tuple[str, str, str, str, dict[str, str]]] = {
    (chat.mme, "test"): (
        "mme", "mme", "MME", "test", {"perception": "mme_perception_score", "cognition": "mme_cognition_score"}
    ),
    (chat.mmbench, "dev"): (
        "mmbench_en_dev_static", "mmbench", "lmms-lab/MMBench", "dev", {"accuracy": "gpt_eval_score"}
    ),
    (chat.seedbench, "image"): ("seedbench", "seedbench", "SEED-Bench", "test", {"accuracy": "seed_image"}),
    (chat.seedbench, "video"): ("seedbench", "seedbench", "SEED-Bench", "test", {"accuracy": "seed_video"}),
    (chat.videomme, "test"): (
        "videomme", "videomme", "Video-MME", "test", {"accuracy": "videomme_perception_score"}
    ),
}  # fmt: skip
NAMES = [f"{build.__name__}-{split}" for build, split in TASKS]


def evaluate(build: Build, split: str, root: Path, answer: Callable[[str], str]) -> tuple[dict[str, Figure], Talker]:
    talker, benchmark = Talker(answer), build(Selection(split=split, root=root))
    records = run(benchmark, talker)
    return {figure.name: figure for figure in benchmark.summarize(records)}, talker


@pytest.mark.parametrize(("build", "split"), TASKS, ids=NAMES)
def test_figures_are_those_of_the_harness(
    build: Build, split: str, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmms_eval.evaluator import simple_evaluate

    from sa2va.evaluation.lmms.model import Sa2VAChat

    name, folder, place, part, metrics = TASKS[build, split]
    ours, talker = evaluate(build, split, tables, guess)
    theirs = Talker(guess)
    monkeypatch.setattr("sa2va.load", lambda *args, **options: theirs)
    monkeypatch.chdir(tmp_path)  # where the harness writes submissions
    overrides = {}
    if name == "videomme":
        overrides["doc_to_visual"] = lambda doc: [str(chat.find_clip(tables / place, doc["videoID"]))]
    config = harness.local_config(name, list_tables(tables / place, part), **overrides)
    manager = harness.open_manager(folder)
    task = manager.load_task_or_group([config], task_type="chat")[name]
    results = simple_evaluate(
        model=Sa2VAChat(batch_size=3), tasks=[task], task_manager=manager, log_samples=False, bootstrap_iters=0
    )["results"][name]
    for figure, metric in metrics.items():
        scale = 100 if name in ("mmbench_en_dev_static", "videomme") else 1
        assert ours[figure].value * scale == pytest.approx(results[f"{metric},none"], abs=1e-9)
        assert ours[figure].low <= ours[figure].value <= ours[figure].high
    asked = {request.prompt for request in talker.requests}
    assert asked <= {request.prompt for request in theirs.requests}
    used = {options.stop for options in talker.options}
    assert used <= {options.stop for options in theirs.options} and all(o.max_objects == 0 for o in talker.options)


def read_truth(prompt: str) -> str:
    """Answer the questions of the small tables."""
    if found := re.match(r"Is it \w+ \d+ (Yes|No)\?", prompt):
        return found[1]
    if found := re.search(r"^Which color has (\d+)\?", prompt):
        return re.search(rf"([A-D])\. red {found[1]}$", prompt, re.MULTILINE)[1]
    if found := re.search(r"How many \d+ (\d)\?", prompt):
        return "ABCD"[int(found[1])]
    return "ABCD"[int(re.search(r"What is (\d+)\?", prompt)[1]) % 4]


@pytest.mark.parametrize(("build", "split"), TASKS, ids=NAMES)
def test_right_answers_reach_the_top(build: Build, split: str, tables: Path) -> None:
    figures, talker = evaluate(build, split, tables, read_truth)
    top = {"perception": 400.0, "cognition": 200.0} if build is chat.mme else {}
    main = list(TASKS[build, split][4])
    assert {name: figures[name].value for name in main} == {name: top.get(name, 1.0) for name in main}
    assert all(figures[name].chance < figures[name].value for name in main)
    shown = talker.requests[0]
    if build is chat.videomme:
        assert str(shown.media).endswith(".mp4")
        assert {"short", "medium", "long"} <= set(figures)
    elif split == "video":
        assert shown.media.shape == (4, 12, 16, 3)


def test_items_are_whole_questions(tables: Path) -> None:
    mmbench = chat.mmbench(Selection(split="dev", root=tables, limit=3, seed=1))
    assert len(mmbench) == 3
    for index, key in enumerate(mmbench.ids):
        item = mmbench.load(index)
        assert len(item.rows) == 2 + int(key) % 3 and len(mmbench.ask(item)) == len(item.rows)
    mme = chat.mme(Selection(split="test", root=tables))
    assert len(mme) == 15 and all(len(mme.load(index).rows) == 2 for index in range(15))
    one_wrong = {0: "yes", 1: "yes"}
    record = mme.score(mme.load(0), [_answer(one_wrong[row]) for row in (0, 1)])
    assert record["right"] == [1.0, 0.0] and record["points"] == 50.0


def _answer(text: str) -> Any:
    from sa2va.evaluation.answers import Answer

    return Answer(text=text, size=(12, 16))


def test_pictures_are_not_decoded_to_score(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    benchmark = chat.mme(Selection(split="test", root=tables))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert [request.prompt for request in benchmark.ask(benchmark.load(0))]


def test_tables_need_not_state_which_columns_are_pictures(tmp_path: Path) -> None:
    rows = [
        {"question_id": "existence/1.png", "image": picture(1), "question": f"Is it {one}?", "answer": one,
         "category": "existence"}
        for one in ("Yes", "No")
    ]  # fmt: skip
    write(tmp_path / "mme" / "test.parquet", rows)
    figures, talker = evaluate(chat.mme, "test", tmp_path, lambda prompt: prompt[6:9])
    assert figures["perception"].value == 200 and len(talker.requests) == 2


def test_an_odd_table_is_named(tmp_path: Path) -> None:
    row = {"question_id": "a", "image": picture(1), "question": "Is it?", "answer": "Yes", "category": "existence"}
    write(tmp_path / "MME" / "test.parquet", [row])
    with pytest.raises(ValueError, match="picture existence/a has 1 questions; expected two"):
        chat.mme(Selection(split="test", root=tmp_path))
    write(tmp_path / "MME" / "test.parquet", [row, row | {"answer": "maybe"}])
    with pytest.raises(ValueError, match="question a has an answer that is neither yes nor no"):
        chat.mme(Selection(split="test", root=tmp_path))
    write(tmp_path / "MME" / "test.parquet", [row, row | {"image": {"bytes": b"no picture", "path": "x.png"}}])
    benchmark = chat.mme(Selection(split="test", root=tmp_path))
    with pytest.raises(ValueError, match="picture x.png: cannot be read"):
        benchmark.ask(benchmark.load(0))


@pytest.mark.parametrize(
    ("build", "split", "message"),
    [
        (chat.mme, "test", "MME: no such folder; docs/benchmarks/chat.md"),
        (chat.mmbench, "dev", "MMBench: no such folder"),
        (chat.videomme, "test", "Video-MME: no such folder"),
    ],
)
def test_data_that_is_not_there_is_named(build: Build, split: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        build(Selection(split=split, root=tmp_path))
