"""Export the chat benchmarks, read the tables, and check every answer against the drawn scene."""

import ast
import io
import json

import numpy as np
import pytest
from PIL import Image
from world.export.conftest import Export

from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.benchmarks import chat, mmbench_video
from sa2va.media.source import open_media
from sa2va.world.export import chat_benchmarks as export
from sa2va.world.language.grammar import NUMBERS

parquet = pytest.importorskip("pyarrow.parquet")


def read(path):
    return parquet.read_table(path).to_pylist()


def test_mme_asks_two_questions_a_picture_about_what_is_drawn(write: Export) -> None:
    root, (part,) = write("mme", "dev", items=10)
    path = root / "MME" / "data" / "test-00000-of-00001.parquet"
    rows = read(path)
    assert set(chat.MME_COLUMNS) == set(rows[0]) and len(rows) == 20
    stated = json.loads(parquet.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert stated["image"] == {"_type": "Image"}
    for (number, sample), yes, no in zip(
        part.draw("conversation", block=export.MME_BLOCK), rows[::2], rows[1::2], strict=True
    ):
        assert yes["question_id"] == no["question_id"] and str(number) in yes["question_id"]
        assert (yes["answer"], no["answer"]) == ("Yes", "No") and yes["question"] != no["question"]
        assert yes["question"].endswith(" Please answer yes or no.")
        picture = np.asarray(Image.open(io.BytesIO(yes["image"]["bytes"])))
        assert np.array_equal(picture, sample.frames[0])
        objects = sample.meta["scene"].objects
        if yes["category"] == "existence":
            pairs = {" ".join(one.pair) for one in objects}
            assert any(pair in yes["question"] for pair in pairs) and not any(p in no["question"] for p in pairs)
        if yes["category"] == "count":
            assert (
                f" {NUMBERS[len(objects)]} " in yes["question"] and f" {NUMBERS[len(objects)]} " not in no["question"]
            )
    assert {row["category"] for row in rows} == set(export.MME_CATEGORIES)


def test_mmbench_turns_the_options_of_every_question(write: Export) -> None:
    root, (part,) = write("mmbench", "dev", items=5)
    rows = read(root / "MMBench" / "en" / "dev-00000-of-00001.parquet")
    assert set(chat.MMBENCH_COLUMNS) <= set(rows[0]) and len(rows) == 20
    for (number, _, (question,)), start in zip(
        export.draw_choices(part, export.MMBENCH_BLOCK, moving=False), range(0, 20, 4), strict=True
    ):
        turned = rows[start : start + 4]
        assert [row["index"] for row in turned] == [number + turn * 1_000_000 for turn in range(4)]
        assert {row["answer"] for row in turned} == set("ABCD")
        assert {row[row["answer"]] for row in turned} == {question.answer}
        assert len({row["A"] for row in turned}) == 4 and {row["question"] for row in turned} == {question.text}


def test_seed_bench_has_pictures_and_clips(write: Export) -> None:
    root, (part,) = write("seedbench", "dev", items=3)
    rows = read(root / "SEED-Bench" / "data" / "test-00000-of-00001.parquet")
    assert set(chat.SEED_COLUMNS) == set(rows[0])
    assert [row["data_type"] for row in rows] == ["image"] * 3 + ["video"] * 3
    assert [len(row["image"]) for row in rows] == [1] * 3 + [8] * 3
    drawn = [one for moving in (False, True) for one in export.draw_choices(part, export.SEED_BLOCK, moving=moving)]
    for row, (_, sample, (question,)) in zip(rows, drawn, strict=True):
        assert row[f"choice_{row['answer'].lower()}"] == question.answer and row["question"] == question.text
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["image"][0]["bytes"]))), sample.frames[0])


def test_video_mme_has_clips_of_three_lengths(write: Export) -> None:
    root, (part,) = write("videomme", "dev", items=3)
    folder = root / "Video-MME"
    rows = read(folder / "videomme" / "test-00000-of-00001.parquet")
    assert set(chat.VIDEO_MME_COLUMNS) <= set(rows[0])
    told = [
        question
        for _, _, several in export.draw_choices(part, export.VIDEO_MME_BLOCK, moving=True, num_questions=3)
        for question in several
    ]
    for row, question in zip(rows, told, strict=True):
        assert f"{row['answer']}. {question.answer}." in row["options"] and len(set(row["options"])) == 4
        clip = open_media(chat.find_clip(folder, row["videoID"]))
        assert clip.num_frames == export.DURATIONS[row["duration"]]
    assert {row["duration"] for row in rows} == {"short", "medium", "long"}


def test_mmbench_video_has_free_answers(write: Export) -> None:
    root, (part,) = write("mmbench_video", "dev", items=2)
    questions = mmbench_video.read_questions(root / "MMBench-Video")
    told = [
        (turn.question, turn.answer)
        for _, sample in part.draw("video_conversation", block=export.MMBENCH_VIDEO_BLOCK, num_turns=3)
        for turn in sample.turns
    ]
    assert [(one.question, one.reference) for one in questions] == told
    assert all(one.coarse for one in questions)
    benchmark = mmbench_video.mmbench_video(Selection(split="test", root=root))
    assert benchmark.ask is not None
    assert open_media(benchmark.ask(benchmark.load(0))[0].media).num_frames == 16
    known = {ability for _, fine in mmbench_video.ABILITIES.values() for ability in fine}
    assert set(export.ABILITIES.values()) <= known
    assert isinstance(ast.literal_eval(str([export.ABILITIES["count"]])), list)
