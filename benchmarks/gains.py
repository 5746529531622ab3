"""Measure the speedup of each optimization: blockwise attention, bfloat16, channels-last, torch.compile, prefetch.

Flow: hiera-tiny's image encoder, or the embedded model's tracker on a file, with and without it, interleaved.
Run: python benchmarks/gains.py [--part encoder | prefetch | compile] [--repeats 3]
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import Clock, Table, choose_clock, name_clock, parser, report, seconds_side_by_side
from video_speed import build

import sa2va
from sa2va.inference.compiling import compile_function
from sa2va.media.writer import VideoWriter
from sa2va.model.attention import BLOCKWISE
from sa2va.model.sam.sam2 import Sam2

SIDE = 1024  # px
NUM_FRAMES, HEIGHT, WIDTH = 40, 480, 854  # of the clip


def with_attention(sam2: Sam2, name: str, pixels: torch.Tensor) -> Callable[[], object]:
    """Return a call of the image encoder with one attention implementation."""

    def encode() -> object:
        sam2.native.vision_encoder.set_attn_implementation(name)
        return sam2.encode_frames(pixels)

    return encode


@torch.inference_mode()
def compare_encoders(device: str, repeats: int) -> Table:
    """Time the image encoder of hiera-tiny."""
    full, half, last = (build("tiny", dtype, device)[0] for dtype in (torch.float32, torch.bfloat16, torch.bfloat16))
    last = last.to(memory_format=torch.channels_last)
    pixels = torch.randn(1, 3, SIDE, SIDE, device=device)
    small, turned = pixels.bfloat16(), pixels.bfloat16().contiguous(memory_format=torch.channels_last)
    actions = {
        "float32, sdpa": with_attention(full, "sdpa", pixels),
        "bfloat16, sdpa": with_attention(half, "sdpa", small),
        "bfloat16, blocks": with_attention(half, BLOCKWISE, small),
        "bfloat16, blocks, channels-last": with_attention(last, BLOCKWISE, turned),
    }
    for action in actions.values():
        action()
    return tabulate(f"hiera-tiny's image encoder at {SIDE} px, {device}", actions, repeats, choose_clock(device))


@torch.inference_mode()
def compare_compiled(device: str, repeats: int) -> Table:
    """Time the embedded model's image encoder in eager mode and compiled; compilation is reported separately."""
    sam2 = sa2va.load("tiny", device=device).model.sam2
    compiled = compile_function(sam2.encode_frames)
    pixels = torch.randn(1, 3, sam2.size, sam2.size, device=device)
    start = time.perf_counter()
    compiled(pixels)
    spent = time.perf_counter() - start
    actions = {"eager": lambda: sam2.encode_frames(pixels), "compiled": lambda: compiled(pixels)}
    table = tabulate(f"the embedded model's image encoder, {device}", actions, 10 * repeats, choose_clock(device))
    table.verdicts.append(f"compilation takes {spent:.3g} s, once per process")
    return table


def compare_prefetch(repeats: int) -> Table:
    """Time the embedded model on a file with and without prefetch."""
    predictor, noise = sa2va.load("tiny", device="cpu"), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, 25) as video:
            for _ in range(NUM_FRAMES):
                video.write(noise.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))

        def track(prefetch: bool) -> None:
            with predictor.track(str(path), prefetch=prefetch) as session:
                for result in session:
                    if result.index == 0:
                        session.add(box=(100, 100, 300, 300))

        actions = {"without prefetch": lambda: track(False), "prefetch": lambda: track(True)}
        title = f"embedded model, {NUM_FRAMES} frames {WIDTH}x{HEIGHT}, 1 object"
        return tabulate(title, actions, repeats, time.perf_counter)


def tabulate(title: str, actions: dict[str, Callable[[], object]], repeats: int, clock: Clock) -> Table:
    """Time actions interleaved, with the speedup of each over the row above."""
    table, before = Table(title, ("variant", name_clock(clock), "speedup over the row above")), 0.0
    for name, spent in seconds_side_by_side(actions, repeats, clock).items():
        table.add(name, spent, before / spent if before else "")
        before = spent
    return table


def main() -> int:
    made = parser("speedup of each optimization")
    made.add_argument("--part", choices=("encoder", "prefetch", "compile"), default="encoder")
    made.add_argument("--repeats", type=int, default=3)
    made.add_argument("--device", default="cpu")
    options = made.parse_args()
    if options.part == "prefetch":
        table = compare_prefetch(options.repeats)
    else:
        compare = compare_encoders if options.part == "encoder" else compare_compiled
        table = compare(options.device, options.repeats)
    return report(
        f"python benchmarks/gains.py --part {options.part}", [table], record=options.record, device=options.device
    )


if __name__ == "__main__":
    sys.exit(main())
