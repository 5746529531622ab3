"""Check MMBench-Video: its table, the questions, ratings and answers without one."""

from pathlib import Path

import numpy as np
import pytest
from evaluation.lmms.conftest import Talker, write
from support.fake_answers import STAMP
from support.judge_server import Server, completion

from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.benchmarks.mmbench_video import ABILITIES, mmbench_video, read_abilities, read_questions
from sa2va.evaluation.judge import Judge, Unjudged, judging
from sa2va.evaluation.runner import evaluate, run
from sa2va.media.writer import VideoWriter

FINE = ["Counting", "Causal Reasoning", "Hallucination", "Video Topic"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A table of four questions about two videos, as the dataset is released."""
    folder = tmp_path / "MMBench-Video"
    lines = ["index\tvideo\tvideo_type\tquestion\tanswer\tdimensions\tvideo_path"]
    for number, ability in enumerate(FINE):
        name = f"clip{number // 2}"
        lines.append(f"{number}\t{name}\tx\t\"What is\n{number}?\"\tr{number}\t['{ability}']\t./video/{name}.mp4")
    folder.mkdir()
    (folder / "MMBench-Video.tsv").write_text("\n".join(lines) + "\n")
    for number in range(2):
        with VideoWriter(folder / "video" / f"clip{number}.mp4", 4) as writer:
            for _ in range(3):
                writer.write(np.zeros((16, 16, 3), np.uint8))
    return tmp_path


def test_ratings_are_averaged_and_failures_count_nothing(root: Path) -> None:
    benchmark = mmbench_video(Selection(split="test", root=root))
    server = Server(*[completion(text) for text in ("3", "2", "1", "0")])
    with judging(Judge(server.url, "gpt", folder=root / "out", pause=0)):
        talker = Talker(lambda prompt: f"[SEG] about {prompt}")
        # One after the other, so that the replies meet their questions.
        for index in range(len(benchmark)):
            item = benchmark.load(index)
            benchmark.score(item, run_one(benchmark, talker, index))
        records = run(benchmark, talker)
        figures = {one.name: one for one in benchmark.summarize(records)}
    assert len(server.requests) == 4 and [record["rating"] for record in records] == [3, 2, 1, 0]
    assert "[SEG]" not in server.requests[0]["messages"][1]["content"]
    assert [request.prompt for request in talker.requests[:4]] == [f"What is\n{number}?" for number in range(4)]
    assert all(options.max_objects == 0 for options in talker.options)
    assert figures["score"].value == 1.5 and figures["score"].num_items == 2  # videos
    assert figures["perception"].value == pytest.approx(4 / 3) and figures["reasoning"].value == 2
    assert figures["fine-grained perception, one instance"].value == 3 and figures["hallucination"].value == 1
    assert figures["answers without a rating"].value == 0
    assert records[0]["facts"] == {"judge": "gpt"}
    server.close()
    failing = Server(completion("cannot say"))
    with judging(Judge(failing.url, "other", folder=root / "out", pause=0)):
        with pytest.warns(UserWarning, match=r"rated 0 of 4 answers; .*: 0, 1, 2, 3 \(no rating in 'cannot say'\)"):
            figures = {one.name: one for one in benchmark.summarize(run(benchmark, talker))}
    assert figures["score"].value == 0 and figures["score, rated answers only"].value is None
    assert figures["answers without a rating"].value == 1
    failing.close()


def run_one(benchmark, talker, index):
    from sa2va.evaluation.answers import Answer

    return [Answer.of(one) for one in talker.predict_batch(benchmark.ask(benchmark.load(index)), benchmark.options)]


def test_without_a_judge_nothing_is_scored(root: Path) -> None:
    with pytest.raises(Unjudged, match="--judge URL --judge-model NAME"):
        run(mmbench_video(Selection(split="test", root=root)), Talker(str))


def test_without_a_judge_the_answers_are_kept_and_the_report_says_so(root: Path) -> None:
    benchmark = mmbench_video(Selection(split="test", root=root))
    report = evaluate(Talker(lambda prompt: "red"), [benchmark], STAMP, progress=True)
    assert not report.sections and "have no verdict of a judge yet" in report.unfinished[0]


def test_parquet_is_read_as_the_table_is(root: Path) -> None:
    pytest.importorskip("pyarrow")
    told = read_questions(root / "MMBench-Video")
    rows = [
        {"index": int(one.key), "video": one.video, "question": one.question, "answer": one.reference,
         "dimensions": str(list(one.abilities))}
        for one in told
    ]  # fmt: skip
    write(root / "other" / "data" / "test-00000-of-00001.parquet", rows)
    assert read_questions(root / "other") == told


@pytest.mark.parametrize("value", ["Counting", "", "[1]", "__import__('os')", None, 3, "['a'"])
def test_abilities_that_are_no_list_are_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"^table, question 3: dimensions .*expected a list"):
        read_abilities(value, "table, question 3")
    assert read_abilities("['a', 'b']", "") == read_abilities(["a", "b"], "") == ("a", "b")


def test_an_incomplete_table_is_named(root: Path) -> None:
    table = root / "MMBench-Video" / "MMBench-Video.tsv"
    table.write_text("index\tvideo\n1\ta\n")
    with pytest.raises(ValueError, match="MMBench-Video.tsv: has no column question; expected index, video"):
        mmbench_video(Selection(split="test", root=root))
    table.write_text("index\tvideo\tvideo_type\tquestion\tanswer\tdimensions\n1\tgone\tx\t?\ty\t['OCR']\n")
    benchmark = mmbench_video(Selection(split="test", root=root))
    with pytest.raises(ValueError, match="gone.mp4: no such video"):
        benchmark.ask(benchmark.load(0))


def test_every_ability_has_one_place() -> None:
    fine = [name for _, several in ABILITIES.values() for name in several]
    assert len(fine) == len(set(fine)) == 26
