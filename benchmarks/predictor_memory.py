"""Measure the memory growth of one predictor over many predictions, conversations and tracks.

Flow: images and clips of the drawn world -> Predictor.predict, open, track -> anonymous memory after so many calls;
    file-backed pages, such as the weights, are left out because the kernel evicts them at will.
Run: python benchmarks/predictor_memory.py [--predictions 2000] [--chats 200] [--tracks 100]
"""

import gc
import sys
from collections.abc import Callable, Iterator
from itertools import cycle

import cv2
import numpy as np
from measure import Table, parser, repeat_command, report, rss_mb

import sa2va
from sa2va.inference.predictor import Predictor
from sa2va.world.tasks import catalog as tasks

SIDES = (160, 256, 320, 448)  # px, cycled over the images
NUM_FRAMES = 6  # of a clip
NUM_ITEMS = 32  # images and clips, rendered before the measurement and reused
WARM = 0.1  # share of the calls that count as warm-up
GROWTH_LIMIT = 0.02


def draw(task: str) -> Iterator[tuple[np.ndarray, str]]:
    """Cycle over frames (T, H, W, 3) of the drawn world in several sizes, each with a question."""
    items = []
    for index in range(NUM_ITEMS):
        sample = tasks.TASKS[task](0, "dev", index)
        side = SIDES[index % len(SIDES)]
        frames = [cv2.resize(frame, (side, side)) for frame in sample.frames[:NUM_FRAMES]]
        items.append((np.stack(frames), sample.turns[0].question))
    return cycle(items)


def name_calls(predictor: Predictor) -> dict[str, Callable[[], object]]:
    """Return calls for one more prediction, conversation of two questions, or track."""
    pictures, clips = draw("refseg"), draw("video_refseg")

    def predict() -> None:
        frames, question = next(pictures)
        predictor.predict(frames[0], question)

    def chat() -> None:
        frames, question = next(pictures)
        talk = predictor.open(frames[0])
        talk.ask(question)
        talk.ask("How many objects are there?")

    def track() -> None:
        frames, question = next(clips)
        with predictor.track(frames, question) as session:
            for _ in session:
                pass

    return {"predictions": predict, "chats": chat, "tracks": track}


def measure_growth(numbers: dict[str, int]) -> Table:
    """Run the warm-up calls, then the rest kind by kind, and tabulate the memory, MB."""
    calls = name_calls(sa2va.load("tiny", device="cpu"))
    table = Table("embedded model, one predictor", ("after", "anonymous memory, MB"))
    warm = {kind: max(1, round(WARM * number)) for kind, number in numbers.items()}
    for kind, number in warm.items():
        for _ in range(number):
            calls[kind]()
    start = used = settle(table, f"{', '.join(f'{number} {kind}' for kind, number in warm.items())}")
    for kind, number in numbers.items():
        for _ in range(number - warm[kind]):
            calls[kind]()
        used = settle(table, f"{number} {kind}")
    table.judge("growth after warm-up, share", used / start - 1, GROWTH_LIMIT)
    return table


def settle(table: Table, after: str) -> float:
    """Record the memory after a garbage collection, MB."""
    gc.collect()
    used = rss_mb("RssAnon")
    table.add(after, f"{used:.1f}")
    return used


def main() -> int:
    made = parser("memory of one predictor over many calls")
    for kind, number in (("predictions", 2000), ("chats", 200), ("tracks", 100)):
        made.add_argument(f"--{kind}", type=int, default=number)
    options = made.parse_args()
    command = repeat_command("predictor_memory.py", made, options)
    numbers = {kind: getattr(options, kind) for kind in ("predictions", "chats", "tracks")}
    return report(command, [measure_growth(numbers)], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
