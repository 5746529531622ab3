"""Draw the files of a bulk run, start its plan, and run it in processes that die."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.own_process import contents
from support.toy_predictor import ToyPredictor

from sa2va.bulk.expressions import read_expressions
from sa2va.bulk.merge import merge
from sa2va.bulk.plan import Plan, start_plan
from sa2va.bulk.sources import find_source
from sa2va.bulk.worker import Answers, Job, answer_blocks
from sa2va.inference.requests import Options

BROKEN = b"no picture"
SETTINGS = {"model": "toy"}


def write_media(folder: Path, num_pictures: int = 4) -> Path:
    """Write dark boxes as PNG, one file that is no picture, and a clip of three frames."""
    (folder / "more").mkdir(parents=True)
    frames = np.full((num_pictures + 3, 12, 16, 3), 255, np.uint8)
    for index, frame in enumerate(frames):
        frame[2 : 5 + index % 6, 3 : 6 + index % 9] = 10 * (index % 12)
    for index in range(num_pictures):
        Image.fromarray(frames[index]).save(folder / ("more" if index % 2 else "") / f"p{index}.png")
    first, *others = (Image.fromarray(frame) for frame in frames[num_pictures:])
    first.save(folder / "moving.gif", save_all=True, append_images=others, duration=100)
    (folder / "broken.jpg").write_bytes(BROKEN)
    (folder / "notes.md").write_text("not listed")
    (folder / ".hidden.png").write_bytes(BROKEN)
    return folder


def write_expressions(path: Path, *texts: str) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts or ("the dark box", "nothing")))
    return path


def start(
    media: Path, expressions: Path, output: Path, *, load: Callable[[], Answers] = ToyPredictor, block: int = 3,
    batch: int = 2, settings: Mapping[str, Any] = SETTINGS, options: Options | None = None,
) -> tuple[Plan, Job]:  # fmt: skip
    """Start the plan of a run, as the command does."""
    source, texts = find_source(str(media)), read_expressions(expressions)
    plan = start_plan(output, settings, lambda: texts.pair(source.list_names()), block)
    return plan, Job(folder=output, store=source.store, load=load, batch=batch, options=options or Options())


def finish(plan: Plan, job: Job) -> None:
    """Answer what is left, and join the parts."""
    for _ in answer_blocks(job, plan.todo()):
        pass
    merge(plan)


def run(media: Path, expressions: Path, output: Path, **how: Any) -> dict[str, bytes]:
    """Run to the end; return the content of every file of the output folder."""
    finish(*start(media, expressions, output, **how))
    return contents(output)


class SlowToy(ToyPredictor):
    """A model that takes its time, and writes down which process it runs in."""

    def __init__(self, seconds: float, processes: Path) -> None:
        super().__init__()
        self.seconds = seconds
        processes.mkdir(exist_ok=True)
        (processes / str(os.getpid())).touch()

    def answer_batch(self, *given: Any, **how: Any) -> Any:
        time.sleep(self.seconds)
        return super().answer_batch(*given, **how)


def die_at(event: int, folder: Path) -> None:
    """Kill this process, as `kill -9` does, just before it changes a folder for the `event`-th time."""
    count = 0

    def watch(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        changes = name in {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
        writes = name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (changes or writes) and any(str(one).startswith(str(folder)) for one in arguments):
            count += 1
            if count == event:
                os.kill(os.getpid(), 9)

    sys.addaudithook(watch)


def run_until_done(prepare: Callable[[int], None], work: Callable[[], object]) -> int:
    """Run work in forked processes until one of them ends by itself; return how many have died.

    Args:
        prepare: called in process number 0, 1, ... before the work.
        work: what a process does.
    """
    for number in range(10_000):
        child = os.fork()
        if not child:
            prepare(number)
            work()
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            return number
    raise AssertionError("it never ends")
