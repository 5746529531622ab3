"""Check figures of random answers against plain loops over pixels, and how an item opens its media."""

from pathlib import Path

import numpy as np
import pytest
from support.fake_answers import fake
from support.stored_layouts import write_picture

from sa2va.data.media_files import StoredFrames, StoredPicture
from sa2va.data.referring import Expression
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Record, Selection
from sa2va.evaluation.benchmarks import grefcoco, refcoco
from sa2va.evaluation.benchmarks.expressions import Referral, build_benchmark
from sa2va.media.source import open_media
from sa2va.types import ArrayFrames, ArrayTracks

NUM_CASES, SIZE = 240, (6, 7)
RNG = np.random.default_rng(0)
TRUTHS = RNG.random((NUM_CASES, 2, 1, *SIZE)) < RNG.choice([0.1, 0.5, 0.9], (NUM_CASES, 1, 1, 1, 1))  # two objects each
IGNORED = RNG.random((NUM_CASES, 1, 1, *SIZE)) < 0.2
FOUND = [RNG.random((int(RNG.integers(0, 4)), 1, *SIZE)) < RNG.choice([0.0, 0.3, 0.8]) for _ in range(NUM_CASES)]
ROWS = [((), (0,), (0, 1))[int(RNG.integers(3))] for _ in range(NUM_CASES)]


def items(ignores: bool) -> list[Referral]:
    return [
        Referral(
            id=f"{case // 3}/{case}",
            group=str(case // 3),
            media=ArrayFrames(np.zeros((1, *SIZE, 3), np.uint8)),
            tracks=ArrayTracks(TRUTHS[case]),
            expression=Expression("it", ROWS[case]),
            ignored=ArrayTracks(IGNORED[case]) if ignores else None,
        )
        for case in range(NUM_CASES)
    ]


def count(case: int, ignores: bool, first_only: bool = False) -> tuple[int, int, int, int]:
    """Count intersection, union, predicted and true area of a case, pixel by pixel."""
    shared = covered = said = meant = 0
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            if ignores and IGNORED[case, 0, 0, y, x]:
                continue
            masks = FOUND[case][:1] if first_only else FOUND[case]
            found = any(mask[0, y, x] for mask in masks)
            true = any(TRUTHS[case, row, 0, y, x] for row in ROWS[case])
            shared, covered = shared + (found and true), covered + (found or true)
            said, meant = said + found, meant + true
    return shared, covered, said, meant


@pytest.mark.parametrize("ignores", [False, True])
def test_figures_equal_plain_loops(ignores: bool) -> None:
    referrals = items(ignores)
    for summarize in (refcoco.summarize, grefcoco.summarize):
        benchmark = build_benchmark("X", referrals, Selection(split="val"), summarize, metrics="")
        answers = [Answer.of(fake("", masks)) for masks in FOUND]
        records: list[Record] = [benchmark.score(item, [one]) for item, one in zip(referrals, answers, strict=True)]
        found = {figure.name: figure.value for figure in benchmark.summarize(records)}
        counts = [count(case, ignores) for case in range(NUM_CASES)]
        ious = [i / u if u else 1.0 for i, u, _, _ in counts]
        assert found["cIoU"] == pytest.approx(sum(c[0] for c in counts) / sum(c[1] for c in counts), abs=1e-9)
        assert found["gIoU"] == pytest.approx(sum(ious) / NUM_CASES, abs=1e-9)
        firsts = [count(case, ignores, first_only=True) for case in range(NUM_CASES)]
        wanted = sum(c[0] for c in firsts) / sum(c[1] for c in firsts)
        assert found["cIoU of the first mask"] == pytest.approx(wanted, abs=1e-9)
    absent = [said == 0 for _, _, said, meant in counts if not meant]
    there = [said > 0 for _, _, said, meant in counts if meant]
    assert found["N-acc"] == pytest.approx(sum(absent) / len(absent))
    assert found["T-acc"] == pytest.approx(sum(there) / len(there))
    reached = [iou >= 0.5 for iou, (_, _, _, meant) in zip(ious, counts, strict=True) if meant]
    assert found["Pr@0.5"] == pytest.approx(sum(reached) / len(reached))


def test_a_picture_is_opened_by_its_path_and_a_clip_frame_by_frame(tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / f"{number}.png", number) for number in range(3)]
    tracks = ArrayTracks()
    picture = Referral(id="a", group="a", media=StoredPicture(paths[0]), tracks=tracks, expression=Expression("it", ()))
    assert picture.open() == paths[0]
    clip = Referral(id="a", group="a", media=StoredFrames(paths), tracks=tracks, expression=Expression("it", ()))
    opened = open_media(clip.open())
    assert opened.num_frames == 3
    assert np.array_equal(opened.frames([2])[0], StoredPicture(paths[2]).frames([0])[0])
    assert clip.question("released") == "Please segment it."
