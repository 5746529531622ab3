"""Measure what it saves to track several answers about one clip together: SAM 2 encodes each frame once for all.

Flow: N requests about one open clip -> Predictor.probe_batch (together) and one by one, in turns -> seconds, ratio.
    A probe has exactly one mask per request, so that both runs decode the same number of objects.
Run: python benchmarks/clip_requests.py [--model tiny] [--frames 16] [--requests 1 4 8]
Shapes: N requests, T frames, H W image.
"""

import sys

import numpy as np
from measure import Table, choose_clock, name_clock, parser, report

import sa2va
from sa2va.inference.requests import Request
from sa2va.media.source import open_media


def draw_clip(num_frames: int, side: int) -> np.ndarray:
    """Draw a bright square that moves over noise: uint8 (T, side, side, 3)."""
    frames = np.random.default_rng(0).integers(0, 80, (num_frames, side, side, 3), np.uint8)
    for index, frame in enumerate(frames):
        start = side // 8 + index * side // (4 * num_frames)
        frame[start : start + side // 4, start : start + side // 4] = (220, 60, 60)
    return frames


def measure_requests(model: str, num_frames: int, side: int, counts: list[int], repeats: int) -> Table:
    """Time N requests together and one by one; the least of several turns counts."""
    predictor, clock = sa2va.load(model, device="cpu"), choose_clock("cpu")
    clip = open_media(draw_clip(num_frames, side))
    table = Table(f"{model}, {num_frames} frames of {side} px", ("requests", "one by one s", "together s", "ratio"))
    for count in counts:
        requests = [Request(clip, f"Please segment object {number}.") for number in range(count)]
        best = {"one by one": np.inf, "together": np.inf}
        for _ in range(repeats):
            for name, batches in (("one by one", [[one] for one in requests]), ("together", [requests])):
                start = clock()
                found = [one for batch in batches for one in predictor.probe_batch(batch)]
                best[name] = min(best[name], clock() - start)
                assert [len(one.objects) for one in found] == [1] * count
        table.add(count, *best.values(), best["one by one"] / best["together"])
    table.verdicts.append(f"least of {repeats} turns ({name_clock(clock)})")
    return table


def main() -> int:
    made = parser("several answers about one clip, tracked together or one by one")
    made.add_argument("--model", default="tiny")
    made.add_argument("--frames", type=int, default=16)
    made.add_argument("--side", type=int, default=256)
    made.add_argument("--requests", type=int, nargs="+", default=[1, 4, 8])
    made.add_argument("--repeats", type=int, default=3)
    options = made.parse_args()
    table = measure_requests(options.model, options.frames, options.side, options.requests, options.repeats)
    return report("python benchmarks/clip_requests.py", [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
