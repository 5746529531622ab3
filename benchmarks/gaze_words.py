"""Time words heard by the model of gaze: the twentieth beside the second, ten people beside one.

Flow: embedded model, event decoder with random weights -> GazeStream.hear, 22 words -> medians -> ratios.
Run: python benchmarks/gaze_words.py
"""

import statistics
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from measure import Table, parser, report

import sa2va
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.predictor import GazePredictor
from sa2va.gaze.training.recipes import tiny_gaze

RATIO_LIMIT, SAMPLES_LIMIT = 1.2, 1.5
WORDS = ("the small red circle to the left of the large blue square " * 2).split()[:22]
EARLY, LATE = slice(1, 4), slice(18, 21)  # around words 2 and 20
REPEATS = 5
DURATION = 300.0  # ms, of every word, so that all have the same number of fixations on average


def build(device: str) -> GazePredictor:
    """The embedded model with people who never stop: what counts is how long they take."""
    base = sa2va.load("tiny", device=device, dtype="float32")
    torch.manual_seed(0)
    sizes = replace(tiny_gaze().decoder, state_width=base.model.mllm.width, image_channels=base.model.sam2.width)
    decoder = EventDecoder(sizes)
    last = decoder.outlook[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.bias[3] = -9.0
    return GazePredictor(ScanpathModel(base.model, base.processor, decoder.to(base.device)))


def time_words(predictor: GazePredictor, picture: np.ndarray, num_samples: int) -> list[float]:
    """Median ms of each word."""
    rows = []
    for repeat in range(REPEATS):
        stream = predictor.start(picture, num_samples, seed=repeat, landing="soft")
        row = []
        for word in WORDS:
            begin = time.perf_counter()
            stream.hear(word, None, DURATION)
            row.append((time.perf_counter() - begin) * 1000)
        rows.append(row)
    return [statistics.median(times) for times in zip(*rows, strict=True)]


def main() -> int:
    made = parser("words heard by the model of gaze")
    made.add_argument("--device", default="cpu")
    options = made.parse_args()
    predictor = build(options.device)
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    time_words(predictor, picture, 1)  # warm up
    one, ten = (time_words(predictor, picture, number) for number in (1, 10))
    table = Table(
        "embedded model, float32, 22 words of 300 ms", ("people", "ms at word 2", "ms at word 20", "ms a word")
    )
    for name, row in (("1", one), ("10", ten)):
        table.add(name, *(statistics.median(part) for part in (row[EARLY], row[LATE], row)))
    table.judge("word 20 / word 2", statistics.median(ten[LATE]) / statistics.median(ten[EARLY]), RATIO_LIMIT)
    table.judge("10 people / 1", sum(ten) / sum(one), SAMPLES_LIMIT)
    return report("python benchmarks/gaze_words.py", [table], record=options.record, device=options.device)


if __name__ == "__main__":
    sys.exit(main())
