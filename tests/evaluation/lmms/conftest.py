"""Write the tables of the chat benchmarks, and answer questions without a model."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sa2va.inference.requests import Request
from sa2va.inference.results import Prediction
from sa2va.media.source import open_media
from sa2va.media.writer import VideoWriter

LETTERS = "ABCD"


class Talker:
    """Predictor whose answer is a function of the prompt."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.options: list[Any] = []
        self.model = SimpleNamespace(mllm=SimpleNamespace(max_places=4096))

    def predict_batch(self, requests: Sequence[Request], options: Any = None) -> list[Prediction]:
        self.requests += requests
        self.options += options if isinstance(options, Sequence) else [options] * len(requests)
        shown = [open_media(request.media if request.images is None else request.images[0]) for request in requests]
        return [
            Prediction(text=self.answer(request.prompt), media=media, num_frames=media.num_frames or 1)
            for request, media in zip(requests, shown, strict=True)
        ]


def guess(prompt: str) -> str:
    """Answer at random, but the same prompt alike: letters, words, and answers that are neither."""
    choices = ["A", "B.", "(C)", "D", "Yes", "no.", "yes, it is", "I cannot tell", "red", "[SEG] A", "The answer is B."]
    return choices[int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % len(choices)]


def picture(number: int) -> dict[str, Any]:
    encoded = io.BytesIO()
    Image.fromarray(np.full((12, 16, 3), number % 256, np.uint8)).save(encoded, format="PNG")
    return {"bytes": encoded.getvalue(), "path": f"{number}.png"}


def write(path: Path, rows: list[dict[str, Any]], **features: Any) -> None:
    """Write a table; `features` are columns of pictures. Without any, nothing is stated about the columns."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.Table.from_pylist(rows)
    plain = {name: {"dtype": str(table.schema.field(name).type), "_type": "Value"} for name in rows[0]}
    lists = {
        name: {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"}
        for name in rows[0]
        if isinstance(rows[0][name], list)
    }
    stated = {"huggingface": json.dumps({"info": {"features": plain | lists | features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.replace_schema_metadata(stated if features else None), path)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of small tables of MME, MMBench, SEED-Bench and Video-MME, in the schema of their data cards."""
    root, image = tmp_path_factory.mktemp("chat"), {"_type": "Image"}
    mme = [
        {"question_id": f"{category}/{number}.png", "image": picture(number), "answer": answer, "category": category,
         "question": f"Is it {category} {number} {answer}? Please answer yes or no."}
        for category in ("existence", "OCR", "code_reasoning")
        for number in range(5)
        for answer in ("Yes", "No")
    ]  # fmt: skip
    write(root / "MME" / "data" / "test-00000-of-00002.parquet", mme[:16], image=image)
    write(root / "MME" / "data" / "test-00001-of-00002.parquet", mme[16:], image=image)
    mmbench = []
    for number in range(12):
        options = [f"red {number}", f"blue {number}", f"green {number}", f"pink {number}"][: 2 + number % 3]
        for turn in range(len(options)):
            turned = (options[turn:] + options[:turn] + ["nan"] * 3)[:4]
            mmbench.append(
                {"index": number + turn * 1_000_000, "question": f"Which color has {number}?", "hint": "nan",
                 "answer": LETTERS[-turn % len(options)], **dict(zip(LETTERS, turned, strict=True)), "E": "nan",
                 "category": f"c{number % 2}", "image": picture(number), "source": "s", "L2-category": f"l{number % 3}",
                 "comment": "nan", "split": "dev"}
            )  # fmt: skip
    write(root / "lmms-lab" / "MMBench" / "en" / "dev-00000-of-00001.parquet", mmbench, image=image)
    seed = [
        {"answer": LETTERS[number % 4], **{f"choice_{one}": f"{one}{number}" for one in "abcd"},
         "data_id": str(number // 2), "data_type": "video" if number % 3 == 0 else "image", "question_id": f"q{number}",
         "question_type_id": 1 + number % 12, "question": f"What is {number}?",
         "image": [picture(number + frame) for frame in range(4 if number % 3 == 0 else 1)]}
        for number in range(24)
    ]  # fmt: skip
    write(
        root / "SEED-Bench" / "data" / "test-00000-of-00001.parquet",
        seed,
        image={"feature": image, "_type": "Sequence"},
    )
    videomme = [
        {"video_id": f"{number:03d}", "duration": ("short", "medium", "long")[number % 3], "domain": "Knowledge",
         "sub_category": "Astronomy", "url": "", "videoID": f"v{number}", "question_id": f"{number:03d}-{rank}",
         "task_type": "Counting Problem", "question": f"How many {number} {rank}?",
         "options": [f"{letter}. {place}." for place, letter in enumerate(LETTERS)], "answer": LETTERS[rank]}
        for number in range(6)
        for rank in range(3)
    ]  # fmt: skip
    write(root / "Video-MME" / "videomme" / "test-00000-of-00001.parquet", videomme)
    for number in range(6):
        with VideoWriter(root / "Video-MME" / "data" / f"v{number}.mp4", 4) as writer:
            for frame in range(3):
                writer.write(np.full((16, 16, 3), 10 * frame, np.uint8))
    return root
