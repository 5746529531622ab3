"""Evaluate open questions about videos on MMBench-Video: a language model rates each answer 0 to 3.

Flow: MMBench-Video.tsv or parquet, videos -> Question -> Benchmark; answers -> Judge -> ratings -> figures.
Source: MMBench-Video, arXiv:2406.14515. lmms-eval has no task for it, so questions, videos and judge are read here: the
    bare question, as the released evaluation sends it to models that read video.
"""

import ast
import csv
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection, measure
from sa2va.evaluation.benchmarks.chat import find_clip, find_folder, measure_rows
from sa2va.evaluation.judge import Case, current_judge
from sa2va.evaluation.lmms.messages import speak
from sa2va.files.parquet import list_tables, read_rows
from sa2va.inference.requests import Options, Request

NAME = "MMBench-Video"
COLUMNS = ("index", "video", "question", "answer", "dimensions")
NUM_NAMED = 5  # questions without a rating that a warning names
PERCEPTION, REASONING = "perception", "reasoning"
# Coarse ability -> its part of the benchmark and its fine abilities.
ABILITIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "coarse perception": (PERCEPTION, ("Video Topic", "Video Emotion", "Video Scene", "Video Style")),
    "fine-grained perception, one instance": (
        PERCEPTION,
        ("OCR", "Object Recognition", "Attribute Recognition", "Event Recognition", "Human Motion", "Counting"),
    ),
    "fine-grained perception, several instances": (
        PERCEPTION,
        ("Spatial Relationship", "Human-object Interaction", "Human Interaction"),
    ),
    "hallucination": (PERCEPTION, ("Hallucination",)),
    "logic reasoning": (REASONING, ("Structuralized Image-Text Understanding", "Mathematical Calculation")),
    "attribute reasoning": (REASONING, ("Physical Property", "Function Reasoning", "Identity Reasoning")),
    "relation reasoning": (REASONING, ("Natural Relation", "Physical Relation", "Social Relation")),
    "common sense reasoning": (REASONING, ("Common Sense Reasoning",)),
    "temporal reasoning": (REASONING, ("Counterfactual Reasoning", "Causal Reasoning", "Future Prediction")),
}


@dataclass(frozen=True)
class Question:
    """One question about a video."""

    key: str
    video: str
    question: str
    reference: str
    abilities: tuple[str, ...]  # fine ones

    @property
    def coarse(self) -> list[str]:
        """Return its coarse abilities."""
        return [name for name, (_, fine) in ABILITIES.items() if set(fine) & set(self.abilities)]


def read_questions(folder: Path) -> list[Question]:
    """Read the table of MMBench-Video: MMBench-Video.tsv, or parquet of split test with the same columns.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = folder / f"{NAME}.tsv"
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if missing := [name for name in COLUMNS if name not in (rows[0] if rows else ())]:
            raise ValueError(f"{path}: has no column {missing[0]}; expected {', '.join(COLUMNS)}")
    else:
        path = folder
        rows = read_rows(list_tables(folder, "test"), COLUMNS)
    return [
        Question(
            str(row["index"]), str(row["video"]), str(row["question"]), str(row["answer"]),
            read_abilities(row["dimensions"], f"{path}, question {row['index']}"),
        )
        for row in rows
    ]  # fmt: skip


def read_abilities(value: object, name: str) -> tuple[str, ...]:
    """Read a list of abilities, or one written as text: "['Counting']".

    Raises:
        ValueError: it is neither; `name` is part of the message.
    """
    try:
        found = ast.literal_eval(value) if isinstance(value, str) else value
        if isinstance(found, Sequence) and not isinstance(found, str) and all(isinstance(one, str) for one in found):
            return tuple(found)
    except (ValueError, SyntaxError):
        pass
    raise ValueError(f"{name}: dimensions {value!r:.60}; expected a list of abilities, as in ['Counting']")


def mmbench_video(selection: Selection) -> Benchmark[Question]:
    """Build MMBench-Video; its answers are rated by the judge of `judging`.

    Raises:
        ValueError: the data is missing or damaged.
    """
    folder = find_folder(selection, NAME)
    questions = read_questions(folder)
    chosen = [questions[index] for index in selection.choose(len(questions))]

    def ask(item: Question) -> list[Request]:
        return [Request(media=find_clip(folder, item.video, ("video", "data", "")), prompt=item.question)]

    def prepare(pairs: Iterable[tuple[Question, Sequence[Answer]]]) -> None:
        current_judge().rate_all([to_case(item, answers[0]) for item, answers in pairs])

    return Benchmark(
        title=NAME, ids=[one.key for one in chosen], load=chosen.__getitem__, ask=ask, score=rate,
        prepare=prepare, summarize=rating_figures, options=Options(max_objects=0),
        batch_size=8,
        protocol="bare question; the key frames that the model was trained with; a judge rates 0 to 3 with our "
        "instructions; an answer without a rating counts 0",
    )  # fmt: skip


def to_case(item: Question, answer: Answer) -> Case:
    """Return what the judge sees of an answer."""
    return Case(item.question, item.reference, speak(answer.text))


def rate(item: Question, answers: Sequence[Answer]) -> Record:
    """Score one answer by its stored verdict, or that of the judge."""
    verdict = current_judge().rate(to_case(item, answers[0]))
    return {
        "id": item.key,
        "rating": verdict["score"],
        "counted": verdict["score"] or 0,
        "error": verdict.get("error"),
        "said": answers[0].text,
        "abilities": item.coarse,
        "group": item.video,
        "facts": {"judge": verdict["judge"]},
    }


def rating_figures(records: list[Record]) -> list[Figure]:
    """Compute mean ratings: over all answers (no rating = 0), over rated ones, and for each ability."""
    failed = [record for record in records if record["rating"] is None]
    if failed:
        named = ", ".join(record["id"] for record in failed[:NUM_NAMED]) + (", ..." if len(failed) > NUM_NAMED else "")
        warnings.warn(
            f"{NAME}: the judge rated {len(records) - len(failed)} of {len(records)} answers; without a rating, so 0: "
            f"{named} ({failed[0]['error']})",
            stacklevel=2,
        )
    rated = [record for record in records if record["rating"] is not None]
    figures = [measure_rows("score", records, "counted"), measure_rows("score, rated answers only", rated, "counted")]
    missing = np.array([record["rating"] is None for record in records], float)
    figures.append(measure("answers without a rating", missing, groups=[record["group"] for record in records]))
    coarse = {name: {name} for name in ABILITIES}
    parts = {part: {name for name, (own, _) in ABILITIES.items() if own == part} for part in (PERCEPTION, REASONING)}
    for name, several in (parts | coarse).items():
        if those := [record for record in records if several.intersection(record["abilities"])]:
            figures.append(measure_rows(name, those, "counted"))
    return figures
