"""Write drawn questions as MME, MMBench, SEED-Bench, Video-MME and MMBench-Video: parquet in their schema, and videos.

Flow: samples of conversation and video_conversation -> questions with yes and no, or with options -> rows -> parquet
    below MME, MMBench, SEED-Bench, Video-MME and MMBench-Video.
Source: the data cards of lmms-lab/MME, lmms-lab/MMBench, lmms-lab/SEED-Bench, lmms-lab/Video-MME and
    opencompass/MMBench-Video (whose table is a TSV file; ours has the same columns). Categories that drawn scenes do
    not have stay empty. The rotations of a question of MMBench have ids 1,000,000 apart, as there.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sa2va.files.parquet import import_pyarrow
from sa2va.media.writer import VideoWriter
from sa2va.types import Frame, Frames, Sample
from sa2va.world.export.chat import FPS
from sa2va.world.export.layout import Layout, Part
from sa2va.world.language.grammar import NUMBERS, with_article
from sa2va.world.language.questions import Question, ask
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.scene import COLORS, SHAPES, TEXTURES, Scene

MME, MMBENCH, SEED, VIDEO_MME, MMBENCH_VIDEO = "MME", "MMBench", "SEED-Bench", "Video-MME", "MMBench-Video"
LETTERS = "ABCD"
WRITER = "pyarrow"
MME_BLOCK, MMBENCH_BLOCK, SEED_BLOCK, VIDEO_MME_BLOCK, MMBENCH_VIDEO_BLOCK = range(1, 6)
YES_OR_NO = " Please answer yes or no."
ROTATION = 1_000_000  # between the ids of the rotations of a question of MMBench
SEED_FRAMES = 8  # of a clip of SEED-Bench
DURATIONS = {"short": 16, "medium": 32, "long": 64}  # frames of a clip of Video-MME
_CELLS = [f"{row} {column}".strip() for row in ("top", "", "bottom") for column in ("left", "", "right")]
PLACES = [cell or "center" for cell in _CELLS]
# Answers to choose wrong options from, by kind of question.
CHOICES: dict[str, Sequence[str]] = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "texture": TEXTURES,
    "count": NUMBERS,
    "place": PLACES,
    "motion": [f"it {kind}" for kind in MOTIONS],
}
PICTURE_KINDS, CLIP_KINDS = ("color", "shape", "texture", "count", "place"), ("motion", "color", "shape", "count")
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


def generator_of(part: Part, number: int) -> np.random.Generator:
    return np.random.default_rng([part.scenes.seed, number, part.place])


def ask_one(scene: Scene, rng: np.random.Generator, kind: str, *, moving: bool = False) -> Question | None:
    """Ask one question of a kind, if the scene allows it."""
    return next(iter(ask(scene, rng, 1, moving=moving, kinds=(kind,))), None)


def _ask_existence(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    here = {item.pair for item in scene.objects}
    named = scene.objects[int(rng.integers(len(scene.objects)))]
    absent = [(named.color, shape) for shape in SHAPES if (named.color, shape) not in here]
    other = absent[int(rng.integers(len(absent)))]
    yes, no = (f"Is there {with_article(' '.join(pair))}?" for pair in (named.pair, other))
    return yes, no


def _ask_count(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    number = len(scene.objects)
    wrong = number + 1 if number < 3 or rng.random() < 0.5 else number - 1
    yes, no = (f"Are there {NUMBERS[one]} objects?" for one in (number, wrong))
    return yes, no


def _ask_about(kind: str, start: str, end: str, asked: str) -> Callable[[Scene, np.random.Generator], Any]:
    """Turn a question with one of CHOICES as its answer into one that is right and one that is wrong."""

    def make(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
        found = ask_one(scene, rng, kind)
        if found is None:
            return None
        wrong = [one for one in CHOICES[kind] if one != found.answer]
        name = found.text.removeprefix(start).removesuffix(end)
        right, other = (asked.format(name, one) for one in (found.answer, wrong[int(rng.integers(len(wrong)))]))
        return right, other

    return make


def _ask_numbers(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    found = ask_one(scene, rng, "more or fewer")
    if found is None:
        return None
    turned = found.text.replace(" more ", " <> ").replace(" fewer ", " more ").replace(" <> ", " fewer ")
    return (found.text, turned) if found.answer == "yes" else (turned, found.text)


# Category of MME -> function that asks two questions about a picture, with the answers yes and no.
MME_CATEGORIES: dict[str, Callable[[Scene, np.random.Generator], tuple[str, str] | None]] = {
    "existence": _ask_existence,
    "count": _ask_count,
    "position": _ask_about("place", "Where is the ", "?", "Is the {} in the {} part of the picture?"),
    "color": _ask_about("color", "What color is the ", "?", "Is the {} {}?"),
    "numerical_calculation": _ask_numbers,
}


def write_mme(root: Path, parts: Sequence[Part]) -> None:
    """Write MME below a data root: two questions a picture, one of them with the answer yes."""
    for part in parts:
        rows: Rows = []
        for number, sample in part.draw("conversation", block=MME_BLOCK):
            scene, rng = sample.meta["scene"], generator_of(part, number)
            category = list(MME_CATEGORIES)[number % len(MME_CATEGORIES)]
            pair = MME_CATEGORIES[category](scene, rng)
            if pair is None:  # this scene does not allow it
                category, pair = "existence", _ask_existence(scene, rng)
            name = f"{category}/{number:07d}.png"
            shown = encode_picture(sample.frames[0], name)
            rows += [
                {"question_id": name, "image": shown, "question": text + YES_OR_NO, "answer": answer,
                 "category": category}
                for text, answer in zip(pair, ("Yes", "No"), strict=True)
            ]  # fmt: skip
        features = {"question_id": TEXT, "image": IMAGE, "question": TEXT, "answer": TEXT, "category": TEXT}
        write_table(root / MME / "data" / f"{part.name}-00000-of-00001.parquet", rows, features)


def draw_choices(
    part: Part, block: int, *, moving: bool, num_questions: int = 1
) -> Iterator[tuple[int, Sample, list[Question]]]:
    """Draw pictures or clips with questions whose answer is one of CHOICES; for `block` see `Part.draw`."""
    kinds, task = (CLIP_KINDS, "video_conversation") if moving else (PICTURE_KINDS, "conversation")

    def questions(sample: Sample) -> list[Question]:
        return ask(
            sample.meta["scene"], generator_of(part, sample.meta["index"]), num_questions, moving=moving, kinds=kinds
        )

    for number, sample in part.draw(task, block=block, keep=questions):
        yield number, sample, questions(sample)


def pick_options(question: Question, rng: np.random.Generator) -> tuple[list[str], int]:
    """Pick four options in random order; return them with the place of the right one."""
    wrong = [one for one in CHOICES[question.kind] if one != question.answer]
    options = [question.answer, *(wrong[i] for i in rng.permutation(len(wrong))[: len(LETTERS) - 1])]
    order = rng.permutation(len(LETTERS))
    return [options[i] for i in order], int(np.flatnonzero(order == 0)[0])


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
