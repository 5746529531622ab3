"""Evaluate chat on MME, MMBench, SEED-Bench and Video-MME, with the prompts and the scores of lmms-eval.

Flow: parquet files -> Task of lmms-eval -> Item (documents asked together) -> Benchmark -> figures.
Source: MME, arXiv:2306.13394; MMBench, arXiv:2307.06281 (circular evaluation); SEED-Bench, arXiv:2307.16125; Video-MME,
    arXiv:2405.21075. An item is what is scored together: both questions about a picture of MME, all rotations of a
    question of MMBench. The harness's own evaluator gives the same figures (tests/evaluation/lmms).
Shapes: E pictures or questions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection, measure
from sa2va.evaluation.lmms.harness import Document, Task, load_task, quiet_harness
from sa2va.files.parquet import list_tables, require_columns
from sa2va.inference.requests import Request

HUBS = ("", "lmms-lab", "lmms-eval", "lmms-lab-encoder", "opencompass")  # folders that a download may lie in
MME_COLUMNS = ("question_id", "image", "question", "answer", "category")
MMBENCH_COLUMNS = ("index", "question", "hint", "image", "answer", "A", "B", "C", "D", "category", "source")
MMBENCH_COLUMNS += ("L2-category", "split")
SEED_COLUMNS = ("question_id", "question_type_id", "data_id", "data_type", "image", "question", "answer")
SEED_COLUMNS += ("choice_a", "choice_b", "choice_c", "choice_d")
VIDEO_MME_COLUMNS = ("videoID", "question_id", "duration", "domain", "sub_category", "task_type", "question", "options")
VIDEO_MME_COLUMNS += ("answer",)
PERCEPTION, COGNITION = "mme_perception_score", "mme_cognition_score"  # metrics of lmms-eval
ROTATIONS = 1_000_000  # the rotations of a question of MMBench have ids that far apart
SEED_TYPES = (
    "scene understanding", "instance identity", "instance attributes", "instance location", "instance counting",
    "spatial relation", "instance interaction", "visual reasoning", "text understanding", "action recognition",
    "action prediction", "procedure understanding",
)  # fmt: skip
VIDEO_SUFFIXES = (".mp4", ".MP4", ".mkv")


@dataclass(frozen=True)
class Item:
    """Rows of a dataset that are asked and scored together."""

    rows: tuple[int, ...]
    documents: tuple[Document, ...]  # without pictures


def find_folder(selection: Selection, place: str) -> Path:
    """Find the folder of a dataset below the root of the data.

    Args:
        selection: has the root.
        place: name of the dataset; a folder of its organization above it, or lower case, is found too.

    Raises:
        ValueError: it is not there.
    """
    root = selection.find()
    names = [name for hub in HUBS for name in (f"{hub}/{place}", f"{hub}/{place.lower()}")]
    found = (root / name.lstrip("/") for name in names)
    folder = next((path for path in found if path.is_dir()), None)
    if folder is None:
        raise ValueError(f"{root / place}: no such folder; docs/benchmarks/chat.md says how to get the data")
    return folder


def group_rows(keys: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Group rows by key, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return {key: tuple(rows) for key, rows in groups.items()}


def build(
    task: Task,
    groups: Mapping[str, tuple[int, ...]],
    selection: Selection,
    score: Callable[[Item, Sequence[Answer]], Record],
    summarize: Callable[[list[Record]], list[Figure]],
    *,
    title: str,
    protocol: str,
    as_clip: bool = False,
) -> Benchmark[Item]:
    """Build a benchmark from a task and its rows by item."""
    keys = list(groups)
    chosen = [keys[index] for index in selection.choose(len(keys))]

    def load(index: int) -> Item:
        rows = groups[chosen[index]]
        return Item(rows, tuple(task.documents[row] for row in rows))

    def ask(item: Item) -> list[Request]:
        return [task.ask(row, as_clip=as_clip) for row in item.rows]

    return Benchmark(
        title=title, ids=chosen, load=load, ask=ask, score=score, summarize=summarize,
        protocol=protocol, options=task.options, batch_size=8,
    )  # fmt: skip


def measure_rows(
    name: str, records: Sequence[Record], value: str, *, chance: str | None = None, baseline: str = ""
) -> Figure:
    """Measure the mean of a value of records, grouped by picture or clip; `chance` names the baseline's value."""
    expected = None if chance is None or not records else float(np.mean([record[chance] for record in records]))
    rows = np.array([record[value] for record in records], float)
    groups = [record["group"] for record in records]
    return measure(name, rows, groups=groups, chance=expected, baseline=baseline)


def measure_each(records: Sequence[Record], value: str, fact: str, names: Sequence[str] = ()) -> list[Figure]:
    """Measure the mean of a value of records for each value of a fact; `names` come first, in their order."""
    present = {record["facts"][fact] for record in records}
    ordered = [name for name in names if name in present] + sorted(present - set(names))
    return [measure_rows(one, [r for r in records if r["facts"][fact] == one], value) for one in ordered]


# ---- MME


def mme(selection: Selection) -> Benchmark[Item]:
    """Build MME: points of perception (at most 2000) and cognition (at most 800).

    Raises:
        ValueError: the data is missing or damaged, or a picture has not two questions.
    """
    folder = find_folder(selection, "MME")
    tables = list_tables(folder, "test")
    require_columns(tables, MME_COLUMNS)
    task = load_task("mme", "mme", tables)
    categories, questions = (task.column(name) for name in ("category", "question_id"))
    groups = group_rows([f"{category}/{key}" for category, key in zip(categories, questions, strict=True)])
    if odd := next((key for key, rows in groups.items() if len(rows) != 2), None):
        raise ValueError(f"{folder}: picture {odd} has {len(groups[odd])} questions; expected two, with yes and no")
    if odd := next((row for row, answer in enumerate(task.column("answer")) if not is_yes_or_no(answer)), None):
        raise ValueError(f"{folder}: question {questions[odd]} has an answer that is neither yes nor no")

    def score(item: Item, answers: Sequence[Answer]) -> Record:
        found = [task.score(row, answer.text) for row, answer in zip(item.rows, answers, strict=True)]
        part = next(iter(found[0]))
        right = [one[part]["score"] for one in found]
        category = item.documents[0]["category"]
        return {
            "part": part,
            "right": right,
            "points": 100.0 * (np.mean(right) + all(right)),
            "said": [answer.text for answer in answers],
            "group": f"{category}/{item.documents[0]['question_id']}",
            "facts": {"category": category},
        }

    return build(
        task, groups, selection, score, mme_figures, title="MME",
        protocol="prompt of lmms-eval (one word or phrase); points per category = 100 x (accuracy of questions + "
        "accuracy of pictures with both right), summed over categories; another answer than yes or no is wrong",
    )  # fmt: skip


def is_yes_or_no(answer: str) -> bool:
    return answer.lower().strip().replace(".", "") in ("yes", "no")


def mme_figures(records: Sequence[Record]) -> list[Figure]:
    """Compute the points of both parts and of each category."""
    figures = []
    for part, name in ((PERCEPTION, "perception"), (COGNITION, "cognition")):
        figures.append(measure_points(name, [record for record in records if record["part"] == part]))
    return [*figures, *measure_each(records, "points", "category")]


def measure_points(name: str, records: Sequence[Record]) -> Figure:
    """Measure the sum over categories of the mean points of their pictures."""
    categories = sorted({record["facts"]["category"] for record in records})
    rows = np.array([[categories.index(one["facts"]["category"]), one["points"]] for one in records], float)
    usual = _mean_points(rows.reshape(-1, 2), np.zeros(len(categories)))

    def total(drawn: NDArray[np.float64]) -> float:
        return float(_mean_points(drawn, usual).sum())

    chance = 75.0 * len(categories)  # half of the questions, a quarter of the pictures
    groups = [record["group"] for record in records]
    return measure(name, rows, total, groups=groups, chance=chance, baseline="yes or no by chance")


def _mean_points(rows: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the mean points of each category, (C,); `usual` (C,) where a resample has none of its pictures."""
    category = rows[:, 0].astype(int)
    counts = np.bincount(category, minlength=len(usual))
    sums = np.bincount(category, weights=rows[:, 1], minlength=len(usual))
    return np.where(counts > 0, sums / np.maximum(counts, 1), usual)


# ---- MMBench


def mmbench(selection: Selection) -> Benchmark[Item]:
    """Build MMBench, English: a question counts only if it is right in all rotations of its options.

    Raises:
        ValueError: the data is missing or damaged, or has no answers.
    """
    folder = find_folder(selection, "MMBench")
    english = folder / "en" if (folder / "en").is_dir() else folder
    tables = list_tables(english, selection.split)
    require_columns(tables, MMBENCH_COLUMNS)
    task = load_task("mmbench_en_dev_static", "mmbench", tables)
    with quiet_harness():
        from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator  # ty: ignore

        evaluator = MMBench_Evaluator()
    groups = group_rows([str(int(index) % ROTATIONS) for index in task.column("index")])

    def is_right(found: Sequence[Mapping[str, Any]]) -> float:
        with quiet_harness():
            return float(evaluator.eval_result([dict(one) for one in found], eval_method="static")[0])

    def score(item: Item, answers: Sequence[Answer]) -> Record:
        found = [task.score(row, one.text)["gpt_eval_score"] for row, one in zip(item.rows, answers, strict=True)]
        first = min(range(len(found)), key=lambda place: int(found[place]["index"]))
        document = item.documents[first]
        options = sum(document.get(letter) not in (None, "", "nan") for letter in "ABCDE")
        return {
            "circular": is_right(found),
            "vanilla": is_right([found[first]]),
            "chance": options ** -float(len(found)),
            "vanilla_chance": 1 / options,
            "said": [answer.text for answer in answers],
            "group": str(int(document["index"])),
            "facts": {"category": document["category"], "ability": document["L2-category"]},
        }

    def summarize(records: list[Record]) -> list[Figure]:
        return [
            measure_rows("accuracy", records, "circular", chance="chance", baseline="options by chance"),
            measure_rows(
                "accuracy, options in one order",
                records,
                "vanilla",
                chance="vanilla_chance",
                baseline="options by chance",
            ),
            *measure_each(records, "circular", "ability"),
        ]

    return build(
        task, groups, selection, score, summarize, title="MMBench",
        protocol="prompt of lmms-eval (option's letter); right in all rotations of the options; letter or text of an "
        "option by rule, without a judge; anything else is wrong",
    )  # fmt: skip


# ---- SEED-Bench


def seedbench(selection: Selection) -> Benchmark[Item]:
    """Build the questions of SEED-Bench about pictures (split image) or clips (split video).

    Raises:
        ValueError: the data is missing or damaged.
    """
    folder = find_folder(selection, "SEED-Bench")
    tables = list_tables(folder, "test")
    require_columns(tables, SEED_COLUMNS)
    task = load_task("seedbench", "seedbench", tables)
    kinds, keys = (task.column(name) for name in ("data_type", "question_id"))
    groups = {
        str(key): (row,) for row, (key, kind) in enumerate(zip(keys, kinds, strict=True)) if kind == selection.split
    }
    if not groups:
        raise ValueError(
            f"{folder}: has no question with data_type {selection.split}, only {', '.join(sorted(set(kinds)))}"
        )

    def score(item: Item, answers: Sequence[Answer]) -> Record:
        document = item.documents[0]
        return {
            "right": task.aggregate("seed_all", [task.score(item.rows[0], answers[0].text)["seed_all"]]),
            "chance": 0.25,
            "said": answers[0].text,
            "group": str(document["data_id"]),
            "facts": {"type": name_type(int(document["question_type_id"]))},
        }

    def summarize(records: list[Record]) -> list[Figure]:
        overall = measure_rows("accuracy", records, "right", chance="chance", baseline="options by chance")
        return [overall, *measure_each(records, "right", "type", SEED_TYPES)]

    return build(
        task, groups, selection, score, summarize, title=f"SEED-Bench {selection.split}",
        as_clip=selection.split == "video",
        protocol="prompt of lmms-eval (option's letter); the first letter of the answer counts"
        + ("; the stored frames are one clip" if selection.split == "video" else ""),
    )  # fmt: skip


def name_type(number: int) -> str:
    """Name a question type of SEED-Bench by its number, 1 to 12."""
    return SEED_TYPES[number - 1] if 1 <= number <= len(SEED_TYPES) else f"type {number}"


# ---- Video-MME


def videomme(selection: Selection) -> Benchmark[Item]:
    """Build Video-MME without subtitles: accuracy over all clips and per length.

    Raises:
        ValueError: the data is missing or damaged.
    """
    folder = find_folder(selection, "Video-MME")
    tables = list_tables(folder, "test")
    require_columns(tables, VIDEO_MME_COLUMNS)

    def show(document: Document) -> list[str]:
        return [str(find_clip(folder, document["videoID"]))]

    task = load_task("videomme", "videomme", tables, doc_to_visual=show)
    groups = {str(key): (row,) for row, key in enumerate(task.column("question_id"))}

    def score(item: Item, answers: Sequence[Answer]) -> Record:
        document = item.documents[0]
        found = task.score(item.rows[0], answers[0].text)["videomme_perception_score"]
        return {
            "right": found["score"],
            "chance": 1 / len(document["options"]),
            "said": answers[0].text,
            "group": document["videoID"],
            "facts": {
                "duration": document["duration"],
                "domain": document["domain"],
                "task": document["task_type"],
            },
        }

    def summarize(records: list[Record]) -> list[Figure]:
        overall = measure_rows("accuracy", records, "right", chance="chance", baseline="options by chance")
        return [overall, *measure_each(records, "right", "duration", ("short", "medium", "long"))]

    return build(
        task, groups, selection, score, summarize, title="Video-MME",
        protocol="prompt of lmms-eval (option's letter), no subtitles; the key frames that the model was trained with; "
        "letter by rule, without a judge",
    )  # fmt: skip


def find_clip(folder: Path, name: str, places: Sequence[str] = ("data", "video", "videos", "")) -> Path:
    """Find the video of a name in a folder of a dataset.

    Raises:
        ValueError: there is none.
    """
    for place in places:
        for suffix in VIDEO_SUFFIXES:
            path = folder / place / f"{name}{suffix}"
            if path.is_file():
                return path
    raise ValueError(f"{folder / places[0] / name}.mp4: no such video; unpack the archives of the dataset there")
