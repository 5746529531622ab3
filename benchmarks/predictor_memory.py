"""Watch the memory of one predictor that goes on answering: predictions, conversations and tracks one after the other.

Flow: pictures and clips of the drawn world -> Predictor.predict, open, track -> memory of the process's own after so
    many calls; pages of files, such as the weights, come and go as the machine likes and are left out.
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

SIDES = (160, 256, 320, 448)  # px of the pictures, in turn
NUM_FRAMES = 6  # of a clip
NUM_ITEMS = 32  # pictures and clips that are asked about again and again, drawn before memory is looked at
WARM = 0.1  # share of the calls after which everything has been set up
GROWTH_LIMIT = 0.02


def draw(task: str) -> Iterator[tuple[np.ndarray, str]]:
    """Return frames (T, H, W, 3) of the drawn world with a question about them, over and over, of several sizes."""
    items = []
    for index in range(NUM_ITEMS):
        sample = tasks.TASKS[task](0, "dev", index)
        side = SIDES[index % len(SIDES)]
        frames = [cv2.resize(frame, (side, side)) for frame in sample.frames[:NUM_FRAMES]]
        items.append((np.stack(frames), sample.turns[0].question))
    return cycle(items)


def name_calls(predictor: Predictor) -> dict[str, Callable[[], object]]:
    """Return one more prediction, conversation of two questions, or track."""
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
    """Make a tenth of all calls, then the rest kind by kind; tabulate the memory, MB."""
    calls = name_calls(sa2va.load("tiny", device="cpu"))
    table = Table("embedded model, one predictor", ("after", "memory of its own, MB"))
    warm = {kind: max(1, round(WARM * number)) for kind, number in numbers.items()}
    for kind, number in warm.items():
        for _ in range(number):
            calls[kind]()
    start = used = settle(table, f"{', '.join(f'{number} {kind}' for kind, number in warm.items())}")
    for kind, number in numbers.items():
        for _ in range(number - warm[kind]):
            calls[kind]()
        used = settle(table, f"{number} {kind}")
    table.judge("growth after the first tenth, share", used / start - 1, GROWTH_LIMIT)
    return table


def settle(table: Table, after: str) -> float:
    """Write down the memory once nothing waits to be collected, MB."""
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
