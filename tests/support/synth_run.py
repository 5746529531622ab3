"""Caption the boxes of small clips by their pixels, and run the data engine on them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.own_process import contents

from sa2va.synth.captioner import CLIP, FIRST, OBJECT, SCENE, Captioner, Checker, Part, Parts, Verdict
from sa2va.synth.engine import Engine, Job
from sa2va.synth.layout import start_run
from sa2va.synth.report import finish
from sa2va.synth.sources import find_clips
from sa2va.synth.views import View

FAR = "too far to the right"


def center(mask: np.ndarray) -> float:
    """Mean column of a mask, px."""
    return float(np.argwhere(mask)[:, 1].mean())


@dataclass(frozen=True)
class PixelCaptioner:
    """Says how large a box is, where it is on the first frame, and whether it moves to the right.

    Attributes:
        seconds: that it takes each time.
    """

    name: str = "pixels"
    seconds: float = 0.0

    def caption(self, level: str, views: Sequence[View], earlier: Sequence[Parts]) -> list[Part | None]:
        time.sleep(self.seconds)
        return [self._write(level, view) for view in views]

    def _write(self, level: str, view: View) -> Part | None:
        if level == OBJECT:
            number = int(view.mask.sum())
            problem = "too large: seen twice" if number > 90 else ""
            return Part(text=f"A box of {number} px.", expression=f"the box of {number} px", problem=problem)
        if level == SCENE:
            if not view.masks[0].any():
                return None
            return Part(text="It is on the left.", expression="the left box", checked="the box", look=FIRST)
        moves = center(view.masks[-1]) > center(view.masks[1])
        return Part(text="It moves.", expression="the box that moves", look=CLIP) if moves else None

    def merge(self, parts: Sequence[Parts]) -> list[str]:
        return [" ".join(part.text for part in one.values()) for one in parts]


@dataclass(frozen=True)
class ColumnChecker:
    """Rejects boxes whose last place is too far to the right."""

    limit: float
    name: str = "columns"
    step: str = "check"

    def check(self, views: Sequence[View], parts: Sequence[Part]) -> list[Verdict]:
        centers = [
            center(view.masks[-1] if part.look == CLIP else view.mask) for view, part in zip(views, parts, strict=True)
        ]
        return [Verdict(problem="" if one < self.limit else FAR, iou=round(one / 100, 4)) for one in centers]


def start(source: Path, output: Path, *, block: int = 2, **how: Any) -> Engine:
    """Start a run, as the command does."""
    captioner: Captioner = how.get("captioner", PixelCaptioner())
    checker: Checker = how.get("checker", ColumnChecker(9.0))
    clips = find_clips(source)
    start_run(output, {"clips": [clip.name for clip in clips], "captioner": captioner.name, "checker": checker.name})
    return Engine(Job(folder=output, clips=clips, captioner=captioner, checkers=[checker], block=block))


def run(source: Path, output: Path, **how: Any) -> dict[str, bytes]:
    """Run to the end; return the content of every file of the output folder."""
    engine = start(source, output, **how)
    for block in range(engine.job.num_blocks):
        engine.run(block)
    finish(engine)
    return contents(output)
