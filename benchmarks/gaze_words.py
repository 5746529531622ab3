"""Time gaze prediction per word: word 20 vs word 2, ten samples vs one, our stream vs the loop of ART.

Flow: embedded model, event decoder with random weights -> GazeStream.hear, 22 words -> medians -> ratios; the same
    model run anew for every prefix and sample, as in ART's published code -> ratio.
Run: python benchmarks/gaze_words.py
"""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from measure import Table, parser, report

import sa2va
from sa2va.gaze.baselines.slots import ART, GRID, CaseInputs, SlotBaseline
from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.model.scene_maps import NUM_HISTORY
from sa2va.gaze.predictor import GazePredictor
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.speech import predict_timing
from sa2va.gaze.training.recipes import tiny_gaze
from sa2va.gaze.trial import Trial

RATIO_LIMIT, SAMPLES_LIMIT, LOOP_LIMIT = 1.2, 1.5, 5.0
WORDS = ("the small red circle to the left of the large blue square " * 2).split()[:22]
EARLY, LATE = slice(1, 4), slice(18, 21)  # around words 2 and 20
REPEATS = 5
EIGHT, NUM_SAMPLES = WORDS[:8], 10  # of the comparison with ART
DURATION = 300.0  # ms per word, so that all words have the same expected number of fixations


def build(device: str) -> GazePredictor:
    """Build the embedded model with a random decoder that never stops."""
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
    """Return the median ms of each word."""
    rows = []
    for repeat in range(REPEATS):
        stream = predictor.start(picture, num_samples, seed=repeat, last_fixation="soft")
        row = []
        for word in WORDS:
            begin = time.perf_counter()
            stream.hear(word, None, DURATION)
            row.append((time.perf_counter() - begin) * 1000)
        rows.append(row)
    return [statistics.median(times) for times in zip(*rows, strict=True)]


def run_stream(predictor: GazePredictor, picture: np.ndarray) -> float:
    """Return the seconds of one prediction of eight words and ten samples."""
    begin = time.perf_counter()
    predictor.predict(picture, " ".join(EIGHT), num_samples=NUM_SAMPLES, last_fixation="soft")
    return time.perf_counter() - begin


@torch.no_grad()
def run_loop(predictor: GazePredictor, picture: np.ndarray) -> float:
    """Return the seconds of the same by ART's loop: image and prefix are encoded anew per sample and pack."""
    model = predictor.model
    sizes = {"state_width": model.sa2va.mllm.width, "image_channels": model.sa2va.sam2.width}
    baseline = SlotBaseline(replace(ART, width=112, **sizes))
    path = Scanpath.from_packs([], [], EIGHT, width=512, height=320)
    case = Trial(scanpath=path, case="", subject="", timing=predict_timing(EIGHT))
    begin = time.perf_counter()
    for _ in range(NUM_SAMPLES):
        packs: list[np.ndarray] = []
        for number in range(len(EIGHT) + 2):
            packs.append(baseline.next_pack(case, packs, ground_prefix(model, picture, EIGHT[:number]))[0])
    return time.perf_counter() - begin


def ground_prefix(model: ScanpathModel, picture: np.ndarray, prefix: Sequence[str]) -> CaseInputs:
    """Ground a prefix in one pass over the image and the prefix."""
    grounder, frame = model.grounder, picture[None]
    features = grounder.encode_images(frame)
    prompts = grounder.build_prompts([frame], [prefix])
    ends = grounder.find_word_ends(prompts, [prefix])
    states = model.sa2va.mllm.run_text(grounder.add_branches(model.sa2va.encode(prompts), ends[:, -1:]))
    logits = grounder.decode_masks(states[:, -1], features, torch.zeros(1, dtype=torch.long))
    size = (picture.shape[1], picture.shape[0])
    belief = F.adaptive_avg_pool2d(model.belief(logits, size)[:, None], GRID.shape).flatten()
    maps = F.adaptive_avg_pool2d(features.embeds, GRID.shape)[0].flatten(1).T
    packs = len(EIGHT) + 2
    known = torch.cat([states[0, ends[0]], states[0, ends[0, -1:]].expand(packs - ends.shape[1], -1)])
    return CaseInputs(belief.expand(packs, NUM_HISTORY, -1), known[:packs], maps)


def main() -> int:
    made = parser("gaze prediction per word")
    made.add_argument("--device", default="cpu")
    options = made.parse_args()
    predictor = build(options.device)
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    time_words(predictor, picture, 1)  # warm up
    one, ten = (time_words(predictor, picture, number) for number in (1, 10))
    table = Table(
        "embedded model, float32, 22 words of 300 ms", ("samples", "ms at word 2", "ms at word 20", "ms per word")
    )
    for name, row in (("1", one), ("10", ten)):
        table.add(name, *(statistics.median(part) for part in (row[EARLY], row[LATE], row)))
    table.judge("word 20 / word 2", statistics.median(ten[LATE]) / statistics.median(ten[EARLY]), RATIO_LIMIT)
    table.judge("10 samples / 1", sum(ten) / sum(one), SAMPLES_LIMIT)
    loop = Table("embedded model, float32, 8 words, 10 samples", ("system", "s"))
    ours = statistics.median(run_stream(predictor, picture) for _ in range(REPEATS))
    theirs = statistics.median(run_loop(predictor, picture) for _ in range(2))
    loop.add("our stream", ours)
    loop.add("loop over prefixes, as in ART", theirs)
    loop.judge("loop / stream", theirs / ours, LOOP_LIMIT, at_least=True)
    return report("python benchmarks/gaze_words.py", [table, loop], record=options.record, device=options.device)


if __name__ == "__main__":
    sys.exit(main())
