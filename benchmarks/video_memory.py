"""Measure the memory growth of tracking: the embedded model on a long video, our SAM 2 tracker and Transformers'.

Flow: generated frames -> TrackSession, Tracker or Transformers' streaming session -> resident memory by frame. One run
    measures one of the three.
Run: python benchmarks/video_memory.py --part embedded | ours | stock [--frames 150]
"""

import gc
import sys
from collections.abc import Iterator

import numpy as np
import torch
from measure import Table, parser, repeat_command, report, rss_mb
from video_speed import build, draw_masks, open_stock, step_stock

import sa2va
from sa2va.model.sam.tracker import STOCK, Tracker

HEIGHT, WIDTH = 480, 854  # px
BOXES = ((60, 60, 220, 220), (340, 140, 520, 320), (620, 240, 800, 420))
EARLY, WARM = 100, 200  # frames
GROWTH_LIMIT_MB, GROWTH_LIMIT = 20.0, 0.02
MIDDLE = 60  # frame
FEW = 8  # frames until the memories of both trackers are set up


def draw_frames(number: int) -> Iterator[np.ndarray]:
    """Yield noise with three drifting squares."""
    noise = np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for index in range(number):
        frame = np.roll(noise, index, axis=1)
        for channel, (x0, y0, x1, y1) in enumerate(BOXES):
            shift = int(20 * np.sin(index / 40 + channel))
            frame[y0:y1, x0 + shift : x1 + shift, channel] = 230
        yield frame


def track_embedded(num_frames: int) -> Table:
    """Track three objects and tabulate the memory at some frames, MB."""
    predictor = sa2va.load("tiny", device="cpu")
    marks = {EARLY, WARM, num_frames // 2, num_frames}
    seen: dict[int, float] = {}
    with predictor.track(draw_frames(num_frames)) as session:
        for result in session:
            if result.index == 0:
                for box in BOXES:
                    session.add(box=box)
            if result.index + 1 in marks:
                gc.collect()
                seen[result.index + 1] = rss_mb()
    table = Table(f"embedded model, {num_frames} frames {WIDTH}x{HEIGHT}, 3 objects", ("frame", "resident memory, MB"))
    for frame, used in seen.items():
        table.add(frame, f"{used:.1f}")
    table.judge(f"growth from frame {WARM} to the end, share", seen[num_frames] / seen[WARM] - 1, GROWTH_LIMIT)
    table.judge(f"growth after frame {EARLY}, MB", seen[num_frames] - seen[EARLY], GROWTH_LIMIT_MB)
    return table


@torch.inference_mode()
def grow_ours(frames: int, dtype: torch.dtype) -> Iterator[float]:
    """Track one object with our tracker and a random hiera-tiny at 1024 px; yield MB after each frame."""
    sam2, _ = build("tiny", dtype, "cpu")
    tracker, masks = Tracker(sam2, STOCK), draw_masks(1, sam2.size, "cpu")
    for index in range(frames):
        features = sam2.encode_frames(torch.randn(1, 3, sam2.size, sam2.size, dtype=dtype))
        if index == 0:
            tracker.prompt(0, features, sam2.take_masks(features, masks), given=masks)
        else:
            tracker.step(index, features)
        yield rss_mb()


@torch.inference_mode()
def grow_stock(frames: int, dtype: torch.dtype) -> Iterator[float]:
    """Track it with Transformers' streaming session and the same model; yield MB after each frame."""
    sam2, sam = build("tiny", dtype, "cpu")
    session = open_stock(sam, draw_masks(1, sam2.size, "cpu"))
    for index in range(frames):
        step_stock(sam, session, index, torch.randn(1, 3, sam2.size, sam2.size, dtype=dtype))
        yield rss_mb()


GROW = {"ours": grow_ours, "stock": grow_stock}


def measure_growth(tracker: str, frames: int, dtype: str) -> Table:
    """Tabulate MB per frame of one tracker; each is measured in a process of its own."""
    title = f"hiera-tiny at 1024 px, random weights, {dtype}, {frames} frames, 1 object"
    table = Table(title, ("tracker", "frame", "resident memory, MB", f"MB per frame since frame {FEW}"))
    name = "ours" if tracker == "ours" else "Transformers' session"
    for index, used in enumerate(GROW[tracker](frames, getattr(torch, dtype))):
        if index == FEW:
            start = used
        elif index > FEW and (index + 1) in (MIDDLE, frames):
            table.add(name, index + 1, f"{used:.0f}", f"{(used - start) / (index - FEW):.2f}")
    return table


def main() -> int:
    made = parser("memory of tracking")
    made.add_argument("--part", required=True, choices=("embedded", *GROW))
    made.add_argument("--frames", type=int, help="number of frames; 3000 for the embedded model, else 150")
    made.add_argument("--dtype", default="bfloat16", help="data type at 1024 px")
    options = made.parse_args()
    command = repeat_command("video_memory.py", made, options)
    if options.part == "embedded":
        table = track_embedded(options.frames or 3000)
    else:
        table = measure_growth(options.part, options.frames or 150, options.dtype)
    return report(command, [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
