"""Track with our tracker and with Transformers' own streaming session, side by side, same weights and dtype.

Flow: random SAM 2 of a released size, noise frames, masks given on the first -> frames/s for 1, 3, 8 objects.
Run: python benchmarks/video_speed.py [--sizes tiny large] [--frames 24] [--dtype bfloat16] [--device cuda]
"""

import sys
import time

import torch
from measure import Table, parser, report
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from sa2va.model.sam2 import Sam2
from sa2va.model.sam2_keys import SIZES, sam2_config
from sa2va.model.tracker import STOCK, Tracker

WARM_FRAMES = 8  # until the memory is full and every frame costs the same
BARS = {1: 1.0, 8: 1.2}
COST_LIMIT = 1.1


def build(size: str, dtype: torch.dtype, device: str) -> Sam2:
    torch.manual_seed(0)
    return Sam2(sam2_config(SIZES[size])).to(device, dtype).eval().requires_grad_(False)


def draw_masks(number: int, side: int, device: str) -> Tensor:
    """Squares along the diagonal: bool (N, S, S)."""
    masks = torch.zeros(number, side, side, dtype=torch.bool, device=device)
    for n in range(number):
        start = n * side // number
        masks[n, start : start + side // number, start : start + side // number] = True
    return masks


class Clock:
    """Time the frames after the memory has filled."""

    def __init__(self, device: str) -> None:
        self._device, self._start = device, 0.0

    def tick(self, frame: int) -> None:
        if frame == WARM_FRAMES:
            self._wait()
            self._start = time.perf_counter()

    def rate(self, num_frames: int) -> float:
        """Return frames/s."""
        self._wait()
        return (num_frames - WARM_FRAMES) / (time.perf_counter() - self._start)

    def _wait(self) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()


@torch.inference_mode()
def run_ours(sam2: Sam2, frames: list[Tensor], masks: Tensor, clock: Clock) -> float:
    tracker = Tracker(sam2, STOCK)
    for index, pixels in enumerate(frames):
        clock.tick(index)
        features = sam2.encode_frames(pixels)
        if index == 0:
            tracker.prompt(0, features, sam2.take_masks(features, masks), given=masks)
        else:
            sam2.upscale(tracker.step(index, features).mask_logits)
    return clock.rate(len(frames))


@torch.inference_mode()
def run_stock(sam2: Sam2, frames: list[Tensor], masks: Tensor, clock: Clock) -> float:
    pixels, native = frames[0], sam2.native
    places = {name: pixels.device for name in ("inference_device", "inference_state_device", "video_storage_device")}
    session = Sam2VideoInferenceSession(
        video=None, video_height=sam2.size, video_width=sam2.size, dtype=pixels.dtype, **places
    )
    ids = list(range(1, len(masks) + 1))
    for number, mask in zip(ids, masks, strict=True):
        session.add_mask_inputs(session.obj_id_to_idx(number), 0, mask[None, None].to(pixels.dtype))
    session.obj_with_new_inputs = list(ids)
    for index, pixels in enumerate(frames):
        clock.tick(index)
        output = native(inference_session=session, frame=pixels[0])
        sam2.upscale(output.pred_masks[:, 0])
    return clock.rate(len(frames))


@torch.inference_mode()
def time_encoder(sam2: Sam2, frames: list[Tensor], clock: Clock) -> float:
    for index, pixels in enumerate(frames):
        clock.tick(index)
        sam2.encode_frames(pixels)
    return 1 / clock.rate(len(frames))


def measure_size(size: str, num_frames: int, objects: list[int], dtype: torch.dtype, device: str) -> Table:
    sam2 = build(size, dtype, device)
    drawn = torch.Generator().manual_seed(0)
    frames = [torch.randn(1, 3, sam2.size, sam2.size, generator=drawn).to(device, dtype) for _ in range(num_frames)]
    title = f"hiera-{size} at {sam2.size} px, random weights, {str(dtype)[6:]}, {num_frames} frames, {device}"
    table = Table(title, ("objects", "ours, frames/s", "Transformers, frames/s", "ratio", "ours / (encoder + N parts)"))
    encoder, part = time_encoder(sam2, frames, Clock(device)), 0.0
    for number in objects:
        masks = draw_masks(number, sam2.size, device)
        ours = run_ours(sam2, frames, masks, Clock(device))
        stock = run_stock(sam2, frames, masks, Clock(device))
        part = part or max(1 / ours - encoder, 0.0) / number  # what the first row's objects cost beside the encoder
        cost = (1 / ours) / (encoder + number * part)
        table.add(number, ours, stock, ours / stock, cost)
        if number in BARS:
            table.judge(f"ratio with {number} objects", ours / stock, BARS[number], at_least=True)
        table.judge(f"cost with {number} objects", cost, COST_LIMIT)
    table.verdicts.append(f"encoder alone: {encoder:.3g} s a frame; one object's part: {part:.3g} s")
    return table


def main() -> int:
    made = parser("tracking speed beside Transformers' session")
    made.add_argument("--sizes", nargs="+", default=["tiny", "large"])
    made.add_argument("--frames", type=int, default=24)
    made.add_argument("--objects", nargs="+", type=int, default=[1, 3, 8])
    made.add_argument("--dtype", default="bfloat16")
    made.add_argument("--device", default="cpu")
    options = made.parse_args()
    dtype = getattr(torch, options.dtype)
    tables = [measure_size(size, options.frames, options.objects, dtype, options.device) for size in options.sizes]
    return report("python benchmarks/video_speed.py", tables, record=options.record, device=options.device)


if __name__ == "__main__":
    sys.exit(main())
