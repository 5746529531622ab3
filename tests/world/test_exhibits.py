"""Check that the demo shows every task on synthetic scenes, and scores those with a ground truth."""

from pathlib import Path
from typing import Any

import numpy as np

from sa2va.apps.demo.page import Exhibit
from sa2va.extensions import resolve
from sa2va.media.source import open_media
from sa2va.world import extension
from sa2va.world.exhibits import KINDS, judge
from sa2va.world.language.expressions import KINDS as WORLD_KINDS
from sa2va.world.tasks.catalog import TASKS

SECTIONS = [resolve(reference) for reference in extension.EXHIBITS.values()]


def show_all(toy: Any, seed: int, scratch: Path) -> list[Exhibit]:
    return [exhibit for show in SECTIONS for exhibit in show(toy, scratch, seed, scratch)]


def test_every_task_is_shown(toy: Any, tmp_path: Path) -> None:
    exhibits = show_all(toy, 1, tmp_path)
    assert len({exhibit.section for exhibit in exhibits}) == 5
    assert all((exhibit.picture is None) != (exhibit.clip is None) for exhibit in exhibits)
    assert all(exhibit.exchanges for exhibit in exhibits)
    clips = [open_media(exhibit.clip) for exhibit in exhibits if exhibit.clip]
    assert len(clips) == 4 and all(clip.num_frames == 16 and clip.height == 512 for clip in clips)
    titles = {exhibit.title for exhibit in exhibits}
    assert set(KINDS) <= titles and set(KINDS) == set(WORLD_KINDS)


def test_the_seed_decides_what_is_asked(toy: Any, tmp_path: Path) -> None:
    def questions(seed: int) -> list[str]:
        shown = [exhibit for show in SECTIONS[:2] for exhibit in show(toy, tmp_path, seed, tmp_path)]
        return [exchange.question for exhibit in shown for exchange in exhibit.exchanges]

    assert questions(3) == questions(3) != questions(4)


def test_masks_are_judged_by_the_truth() -> None:
    sample = TASKS["refseg"](0, "test", 0, num_turns=1, kind="group", empty_share=0.0)
    truth = sample.masks[sample.meta["targets"][0]].any(0)
    assert judge(truth, sample) == 1.0
    assert judge(np.zeros_like(truth), sample) == 0.0
