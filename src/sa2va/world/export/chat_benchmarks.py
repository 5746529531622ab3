"""Write drawn questions as MME, MMBench, SEED-Bench, Video-MME and MMBench-Video: parquet in their schema, and videos.

Flow: samples of conversation and video_conversation -> choices.py (questions with yes and no, or with options) -> rows
    -> parquet below MME, MMBench, SEED-Bench, Video-MME and MMBench-Video.
Source: the data cards of lmms-lab/MME, lmms-lab/MMBench, lmms-lab/SEED-Bench, lmms-lab/Video-MME and
    opencompass/MMBench-Video (whose table is a TSV file; ours has the same columns). Categories that drawn scenes do
    not have stay empty. The rotations of a question of MMBench have ids 1,000,000 apart, as there.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sa2va.files.parquet import import_pyarrow
from sa2va.media.writer import VideoWriter
from sa2va.types import Frame, Frames
from sa2va.world.export.chat import FPS
from sa2va.world.export.choices import LETTERS, MME_CATEGORIES, ask_pair, draw_choices, generator_of, pick_options
from sa2va.world.export.layout import Layout, Part
from sa2va.world.scenes.splits import withheld_pairs

MME, MMBENCH, SEED, VIDEO_MME, MMBENCH_VIDEO = "MME", "MMBench", "SEED-Bench", "Video-MME", "MMBench-Video"
WRITER = "pyarrow"
MME_BLOCK, MMBENCH_BLOCK, SEED_BLOCK, VIDEO_MME_BLOCK, MMBENCH_VIDEO_BLOCK = range(1, 6)
YES_OR_NO = " Please answer yes or no."
ROTATION = 1_000_000  # between the ids of the rotations of a question of MMBench
SEED_FRAMES = 8  # of a clip of SEED-Bench
DURATIONS = {"short": 16, "medium": 32, "long": 64}  # frames of a clip of Video-MME
# kind -> (category, L2 category) of MMBench, number of SEED-Bench's type, task of Video-MME, ability of MMBench-Video
MMBENCH_CATEGORIES = {
    "color": ("attribute_recognition", "finegrained_perception (instance-level)"),
    "shape": ("attribute_recognition", "finegrained_perception (instance-level)"),
    "texture": ("attribute_recognition", "finegrained_perception (instance-level)"),
    "count": ("object_localization", "finegrained_perception (instance-level)"),
    "place": ("spatial_relationship", "relation_reasoning"),
}
SEED_TYPES = {"shape": 2, "color": 3, "texture": 3, "place": 4, "count": 5, "motion": 10}
VIDEO_MME_TASKS = {
    "motion": "Action Recognition", "color": "Attribute Perception", "shape": "Object Recognition",
    "count": "Counting Problem",
}  # fmt: skip
ABILITIES = {
    "motion": "Event Recognition", "who moves": "Event Recognition", "any motion": "Event Recognition",
    "count moving": "Counting", "count": "Counting", "color": "Attribute Recognition", "shape": "Object Recognition",
    "existence": "Hallucination",
}  # fmt: skip
IMAGE, IMAGES = {"_type": "Image"}, {"feature": {"_type": "Image"}, "_type": "Sequence"}
TEXT, NUMBER = {"dtype": "string", "_type": "Value"}, {"dtype": "int64", "_type": "Value"}
TEXTS = {"feature": TEXT, "_type": "Sequence"}
Rows = list[dict[str, Any]]


def write_table(path: Path, rows: Rows, features: Mapping[str, Any]) -> None:
    """Write a parquet file whose schema names the features of Hugging Face datasets; missing folders are made.

    Args:
        path: of the file.
        rows: with a value, or None, for each feature.
        features: by column, as a data card lists them.
    """
    pa, parquet = import_pyarrow()
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = [
        (IMAGE, picture), (IMAGES, pa.list_(picture)), (TEXTS, pa.list_(pa.string())), (TEXT, pa.string()),
        (NUMBER, pa.int64()),
    ]  # fmt: skip
    fields = [(name, next(kind for one, kind in kinds if one == feature)) for name, feature in features.items()]
    stated = json.dumps({"info": {"features": dict(features)}})
    table = pa.Table.from_pylist(rows, pa.schema(fields, metadata={"huggingface": stated}))
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def encode_picture(frame: Frame, name: str) -> dict[str, Any]:
    """Encode a picture as the value of an image column."""
    encoded = io.BytesIO()
    Image.fromarray(frame).save(encoded, format="PNG")
    return {"bytes": encoded.getvalue(), "path": name}


def write_clip(path: Path, frames: Frames) -> None:
    with VideoWriter(path, FPS) as writer:
        for frame in frames:
            writer.write(frame)


def write_mme(root: Path, parts: Sequence[Part]) -> None:
    """Write MME below a data root: two questions a picture, one of them with the answer yes."""
    for part in parts:
        rows: Rows = []
        for number, sample in part.draw("conversation", block=MME_BLOCK):
            scene, rng = sample.meta["scene"], generator_of(part, number)
            wanted = list(MME_CATEGORIES)[number % len(MME_CATEGORIES)]
            category, pair = ask_pair(scene, rng, wanted, withheld_pairs(part.scenes.split))
            name = f"{category}/{number:07d}.png"
            shown = encode_picture(sample.frames[0], name)
            rows += [
                {"question_id": name, "image": shown, "question": text + YES_OR_NO, "answer": answer,
                 "category": category}
                for text, answer in zip(pair, ("Yes", "No"), strict=True)
            ]  # fmt: skip
        features = {"question_id": TEXT, "image": IMAGE, "question": TEXT, "answer": TEXT, "category": TEXT}
        write_table(root / MME / "data" / f"{part.name}-00000-of-00001.parquet", rows, features)


def write_mmbench(root: Path, parts: Sequence[Part]) -> None:
    """Write MMBench below a data root: a question a picture, once for each rotation of its options."""
    texts = ("question", "hint", "answer", *LETTERS, "E", "category", "source", "L2-category", "comment", "split")
    for part in parts:
        rows: Rows = []
        for number, sample, (question, *_) in draw_choices(part, MMBENCH_BLOCK, moving=False):
            options, right = pick_options(question, generator_of(part, number))
            category, ability = MMBENCH_CATEGORIES[question.kind]
            shown = encode_picture(sample.frames[0], f"{number}.png")
            for turn in range(len(options)):
                turned = dict(zip(LETTERS, options[turn:] + options[:turn], strict=True))
                rows.append(
                    {"index": number + turn * ROTATION, "question": question.text, "hint": "nan", "image": shown,
                     "answer": LETTERS[(right - turn) % len(options)], **turned, "E": "nan", "category": category,
                     "source": "drawn", "L2-category": ability, "comment": "nan", "split": part.name}
                )  # fmt: skip
        features = {"index": NUMBER, **dict.fromkeys(texts, TEXT), "image": IMAGE}
        write_table(root / MMBENCH / "en" / f"{part.name}-00000-of-00001.parquet", rows, features)


def write_seed(root: Path, parts: Sequence[Part]) -> None:
    """Write SEED-Bench below a data root: as many questions about clips as about pictures."""
    texts = ("answer", "choice_a", "choice_b", "choice_c", "choice_d", "data_id", "data_type", "question_id")
    features = {**dict.fromkeys(texts, TEXT), "question_type_id": NUMBER, "image": IMAGES, "question": TEXT}
    for part in parts:
        rows: Rows = []
        for moving in (False, True):
            for number, sample, (question, *_) in draw_choices(part, SEED_BLOCK, moving=moving):
                options, right = pick_options(question, generator_of(part, number))
                shown = sample.frames[np.linspace(0, len(sample.frames) - 1, SEED_FRAMES if moving else 1).astype(int)]
                kind = "video" if moving else "image"
                rows.append(
                    {"answer": LETTERS[right], "data_id": f"{kind}_{number}", "data_type": kind,
                     **{f"choice_{letter.lower()}": option for letter, option in zip(LETTERS, options, strict=True)},
                     "question_id": f"{kind[0]}{number}", "question_type_id": SEED_TYPES[question.kind],
                     "image": [encode_picture(frame, f"{rank}.png") for rank, frame in enumerate(shown)],
                     "question": question.text}
                )  # fmt: skip
        write_table(root / SEED / "data" / f"{part.name}-00000-of-00001.parquet", rows, features)


def write_video_mme(root: Path, parts: Sequence[Part]) -> None:
    """Write Video-MME below a data root: up to three questions a clip, clips of three lengths."""
    texts = ("video_id", "duration", "domain", "sub_category", "url", "videoID", "question_id", "task_type", "question")
    for part in parts:
        rows: Rows = []
        for number, sample, questions in draw_choices(part, VIDEO_MME_BLOCK, moving=True, num_questions=3):
            duration = list(DURATIONS)[number % len(DURATIONS)]
            name, rng = f"drawn{number:07d}", generator_of(part, number)
            scene, side = sample.meta["scene"], sample.frames.shape[1]
            write_clip(root / VIDEO_MME / "data" / f"{name}.mp4", scene.render(side, DURATIONS[duration]).frames)
            for rank, question in enumerate(questions, 1):
                options, right = pick_options(question, rng)
                rows.append(
                    {"video_id": f"{number:03d}", "duration": duration, "domain": "Knowledge",
                     "sub_category": "Technology", "url": "", "videoID": name, "question_id": f"{number:03d}-{rank}",
                     "task_type": VIDEO_MME_TASKS[question.kind], "question": question.text,
                     "options": [f"{letter}. {option}." for letter, option in zip(LETTERS, options, strict=True)],
                     "answer": LETTERS[right]}
                )  # fmt: skip
        features = {**dict.fromkeys(texts, TEXT), "options": TEXTS, "answer": TEXT}
        write_table(root / VIDEO_MME / "videomme" / f"{part.name}-00000-of-00001.parquet", rows, features)


def write_mmbench_video(root: Path, parts: Sequence[Part]) -> None:
    """Write MMBench-Video below a data root: questions with free answers about clips."""
    texts = ("video", "video_type", "question", "answer", "dimensions", "video_path")
    for part in parts:
        rows: Rows = []
        for number, sample in part.draw("video_conversation", block=MMBENCH_VIDEO_BLOCK, num_turns=3):
            name = f"drawn{number:07d}"
            write_clip(root / MMBENCH_VIDEO / "video" / f"{name}.mp4", sample.frames)
            for turn, kind in zip(sample.turns, sample.meta["kinds"], strict=True):
                rows.append(
                    {"index": len(rows), "video": name, "video_type": "Science", "question": turn.question,
                     "answer": turn.answer, "dimensions": str([ABILITIES[kind]]), "video_path": f"./video/{name}.mp4"}
                )  # fmt: skip
        features = {"index": NUMBER, **dict.fromkeys(texts, TEXT)}
        write_table(root / MMBENCH_VIDEO / "data" / f"{part.name}-00000-of-00001.parquet", rows, features)


MME_LAYOUT = Layout(write_mme, (MME,), (), splits=("test",), needs=WRITER)
MMBENCH_LAYOUT = Layout(write_mmbench, (MMBENCH,), (), splits=("dev",), needs=WRITER)
SEED_LAYOUT = Layout(write_seed, (SEED,), (), splits=("test",), needs=WRITER)
VIDEO_MME_LAYOUT = Layout(write_video_mme, (VIDEO_MME,), (), splits=("test",), needs=WRITER)
MMBENCH_VIDEO_LAYOUT = Layout(write_mmbench_video, (MMBENCH_VIDEO,), (), splits=("test",), needs=WRITER)
