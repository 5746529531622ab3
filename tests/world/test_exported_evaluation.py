"""Export every evaluation split, and evaluate perfect answers and the embedded model on all of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from world.export.reading import asked

from sa2va.apps import cli
from sa2va.evaluation import caption as captions
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Record, Selection
from sa2va.evaluation.catalog import PUBLIC, choose_public, rebuild
from sa2va.inference.requests import Request
from sa2va.inference.results import ObjectMasks
from sa2va.masks import encode_rle
from sa2va.tokens import PHRASE_TOKENS
from sa2va.types import Sample
from sa2va.world.export import gcg, mevis, reasonseg, refcoco, refsav, refytvos, region_caption, revos
from sa2va.world.export.catalog import LAYOUTS
from sa2va.world.export.clips import WrittenClip, draw_samples
from sa2va.world.export.evaluation import export_evaluation
from sa2va.world.export.layout import Part, choose_scenes
from sa2va.world.export.reasoning import ask_for_objects
from sa2va.world.tasks import items

Said = dict[str, Sequence[int]]  # text -> rows of the masks that it means

EXPRESSIONS = [
    "refcoco", "refcoco+", "refcocog", "grefcoco", "reasonseg",
    "mevis", "ref_davis17", "refytvos", "revos", "refsav",
]  # fmt: skip
DRAWN_LAYOUTS = {"ref_davis17": "davis"}  # by benchmark, where the name of the layout differs
CHECKED = ("mIoU", "gIoU", "cIoU", "J", "F", "J&F", "A", "R", "N-acc", "T-acc", "Pr@0.5", "Pr@0.9")


@pytest.fixture(scope="module", autouse=True)
def short_clips() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "CLIP_FRAMES", 4)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, short_clips: None) -> Path:
    """Root of the data with a picture or clip of each evaluation split."""
    root = tmp_path_factory.mktemp("data")
    list(export_evaluation(root, split="dev", seed=None, num_items=1))
    return root


def find_part(benchmark: str) -> tuple[str, Part]:
    """Return layout and part of a benchmark."""
    name, split = benchmark.split("/")
    layout = DRAWN_LAYOUTS.get(name, name)
    parts = LAYOUTS[layout].parts(choose_scenes(["dev"], None, 1, with_server_masks=True))
    return layout, next(part for part in parts if part.name == split)


def draw_said(layout: str, part: Part) -> Iterator[tuple[Sample, Said]]:
    """Yield what a part shows, and what each of its texts means."""
    if layout == "reasonseg":
        for _, sample, chosen in reasonseg.draw(part):
            yield sample, {text: [chosen.place] for text in chosen.texts}
        return
    if layout in refcoco.DATASETS:
        drawn = refcoco.draw_pictures(part, layout)
    elif layout in ("mevis", "revos"):
        drawn = {"mevis": mevis, "revos": revos}[layout].draw(part)
    else:
        blocks = {"refytvos": refytvos.REFYTVOS_BLOCK, "davis": refytvos.DAVIS_BLOCK, "refsav": refsav.BLOCK}
        drawn = draw_samples(part, blocks[layout])
    for _, sample in drawn:
        said: Said = dict(zip(sample.meta["expressions"], sample.meta["targets"], strict=True))
        if layout == "revos":
            said |= {one.text: one.objects for one in ask_for_objects(sample, part.scenes.seed)}
        elif layout == "davis":
            clip = WrittenClip(0, "", [], sample)
            said = {one.text: one.objects for one in refytvos.describe_each(clip, part)}
        elif layout == "refsav":
            scene = sample.meta["scene"]
            said |= {refsav.write_long_caption(scene, row): [row] for row in refsav.caption_objects(sample)}
        yield sample, said


def answer(sample: Sample, rows: Sequence[int], text: str, phrases: Sequence[str | None] = ()) -> Answer:
    """Answer with a text and the drawn masks of some objects."""
    objects = tuple(
        ObjectMasks(
            id=number,
            phrase=phrase,
            presence=1.0,
            scores=np.ones(sample.num_frames, np.float32),
            rles=tuple(encode_rle(mask) for mask in sample.masks[row]),
        )
        for number, (row, phrase) in enumerate(zip_longest(rows, phrases), 1)
    )
    height, width = sample.frames.shape[1:3]
    return Answer(text=text, size=(height, width), num_frames=sample.num_frames, objects=objects)


def score_answers(benchmark: Benchmark[Any], answer_each: Callable[[Sequence[Request]], list[Answer]]) -> list[Record]:
    """Score answers to all items of a benchmark."""
    assert benchmark.ask is not None
    found = map(benchmark.load, range(len(benchmark)))
    return [benchmark.score(item, answer_each(benchmark.ask(item))) for item in found]


@pytest.mark.parametrize("name", [f"{name}/{split}" for name in EXPRESSIONS for split in PUBLIC[name].splits])
def test_the_drawn_masks_reach_every_figure(name: str, root: Path) -> None:
    layout, part = find_part(name)
    ((sample, said),) = draw_said(layout, part)

    def answer_each(requests: Sequence[Request]) -> list[Answer]:
        found = [said[asked(one.prompt, list(said))] for one in requests]
        return [answer(sample, rows, "It is [SEG]." if rows else "There is no such object.") for rows in found]

    benchmark = rebuild(name, Selection(split="", root=root))
    records = score_answers(benchmark, answer_each)
    figures = {figure.name: figure.value for figure in benchmark.summarize(records)}
    assert None not in figures.values() and {*CHECKED} & {*figures}
    for key, value in figures.items():
        if key.partition(",")[0] in CHECKED and not key.endswith("first mask"):
            assert value == pytest.approx(1.0, abs=1e-4), key


@pytest.mark.parametrize("split", PUBLIC["gcg"].splits)
def test_the_drawn_captions_and_masks_reach_every_figure_of_gcg(split: str, root: Path) -> None:
    _, part = find_part(f"gcg/{split}")
    ((_, sample),) = part.draw("gcg", block=gcg.GRANDF, keep=gcg.has_distinct_phrases)
    (turn,), phrases = sample.turns, gcg.find_phrases(sample)
    text = turn.answer
    for phrase, start, end, _ in reversed(phrases):
        text = f"{text[:start]}{PHRASE_TOKENS[0]} {phrase} {PHRASE_TOKENS[1]} [SEG]{text[end:]}"
    said = answer(sample, [row for *_, row in phrases], text, [phrase for phrase, *_ in phrases])
    records = score_answers(rebuild(f"gcg/{split}", Selection(split="", root=root)), lambda requests: [said])
    figures = [*captions.grounded_figures(records), *captions.glamm_figures(records)]
    assert len(figures) >= 5 and all(figure.value == 1.0 for figure in figures)
    assert [record["caption"] for record in records] == records[0]["references"] == [turn.answer]


def test_the_drawn_descriptions_are_those_of_region_captions(root: Path) -> None:
    _, part = find_part("region_caption/val")
    ((_, sample),) = region_caption.draw(part)
    said = iter(answer(sample, [], turn.answer) for turn in sample.turns)
    records = score_answers(
        rebuild("region_caption/val", Selection(split="", root=root)), lambda requests: [next(said)]
    )
    assert next(said, None) is None
    assert all(record["caption"] == f"It is {record['references'][0]}." for record in records)


def evaluate(out: Path, *words: str) -> dict[str, list[Any]]:
    """Evaluate the embedded model, and return the figures of each benchmark."""
    assert cli.main(["eval", "tiny", *words, "-o", str(out), "--quiet", "--json"]) == 0
    report = json.loads((out / "report.json").read_text())
    return {name: list(figures.values()) for name, figures in report["benchmarks"].items()}


def test_the_embedded_model_answers_a_picture_and_a_clip(root: Path, tmp_path: Path) -> None:
    names = ["refcoco/val", "reasonseg/test", "refytvos/valid"]
    found = evaluate(tmp_path / "out", "-b", ",".join(names), "--data", str(root), "--limit", "1")
    assert list(found) == names and all(0 <= figures[0]["value"] <= 1 for figures in found.values())


@pytest.mark.slow
def test_no_figure_of_the_embedded_model_is_empty(root: Path, tmp_path: Path) -> None:
    names = [name for name in choose_public(["all"], root) if not name.startswith("mmbench_video")]  # needs a judge
    found = evaluate(tmp_path / "out", "--exported", str(root), "--limit", "1", "-b", ",".join(names))
    assert list(found) == names and len(names) >= 23
    for name, figures in found.items():  # a note says that Java is missing
        assert figures and all(one["value"] is not None or one.get("note") for one in figures), name
