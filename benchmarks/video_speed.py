"""Time our tracker and Transformers' streaming session, frame by frame and interleaved, with equal weights and dtype.

Flow: random SAM 2 of a released size, noise frames, masks on the first frame -> median seconds per frame of each with
    a full memory. One run measures one size with one number of objects; --record keeps a section for each.
Run: python benchmarks/video_speed.py --model hiera-tiny --objects 1 [--frames 24] [--device cuda] [--compile]
Shapes: N objects, S side of SAM 2's input in px.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from image_speed import matrix_peak
from measure import Table, choose_clock, name_clock, parser, repeat_command, report
from plain_loop import share_sam2
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from sa2va.checkpoints.sam2_sizes import SIZES, sam2_config
from sa2va.inference.compiling import compile_function
from sa2va.model.attention import avoid_cudnn
from sa2va.model.sam.memory_bank import Page
from sa2va.model.sam.sam2 import FrameFeatures, Sam2
from sa2va.model.sam.tracker import STOCK, Follow, Tracker, track_frame

WARM_FRAMES = 7  # until all memories are there and the cost per frame is nearly constant
FULL_FRAMES = 16  # until all object pointers are there too: then shapes are constant, and compiling pays
BARS = {1: 1.0, 8: 1.2}
GPU_BARS = {1: 60, 8: 30, 32: 12}  # frames/s with hiera-large, compiled, on an H200
GPU_RATIO = 1.5  # compiled
COST_LIMIT = 1.1
PUBLISHED = 39.5  # frames/s of SAM 2.1 with hiera-large on an A100, as published


def build(size: str, dtype: torch.dtype, device: str, side: int = 1024) -> tuple[Sam2, Sam2VideoModel]:
    """Build a SAM 2 with random weights for inputs of `side` px, and the stock model with the same weights."""
    torch.manual_seed(0)
    config = sam2_config(replace(SIZES[size], image_size=side))
    sam2 = Sam2(config).to(device, dtype).eval().requires_grad_(False)
    return sam2, share_sam2(sam2, config)


def draw_masks(number: int, side: int, device: str) -> Tensor:
    """Draw squares along the diagonal: bool (N, S, S)."""
    masks = torch.zeros(number, side, side, dtype=torch.bool, device=device)
    for n in range(number):
        start = n * side // number
        masks[n, start : start + side // number, start : start + side // number] = True
    return masks


def start_ours(sam2: Sam2, features: FrameFeatures, masks: Tensor, follow: Follow = track_frame) -> Tracker:
    """Return our tracker with the objects of frame 0; `follow` may be compiled."""
    tracker = Tracker(sam2, STOCK, follow=follow)
    tracker.prompt(0, features, sam2.take_masks(features, masks), given=masks)
    return tracker


def open_stock(sam: Sam2VideoModel, masks: Tensor) -> Sam2VideoInferenceSession:
    """Return the library's session with masks for frame 0."""
    dtype, device, side = sam.no_memory_embedding.dtype, masks.device, masks.shape[-1]
    session = Sam2VideoInferenceSession(
        video=None, video_height=side, video_width=side, dtype=dtype,
        inference_device=device, inference_state_device=device, video_storage_device=device,
    )  # fmt: skip
    for number, mask in enumerate(masks, 1):
        session.add_mask_inputs(session.obj_id_to_idx(number), 0, mask[None, None].to(dtype))
    session.obj_with_new_inputs = list(range(1, len(masks) + 1))
    return session


def step_stock(sam: Sam2VideoModel, session: Sam2VideoInferenceSession, frame: int, pixels: Tensor) -> Tensor:
    """Track one frame with the library's session: logits (N, 1, S, S)."""
    output = sam(inference_session=session, frame=pixels[0], frame_idx=frame)
    return F.interpolate(output.pred_masks.float(), pixels.shape[-2:], mode="bilinear")


def fill_memories(trackers: Sequence[Tracker], session: Sam2VideoInferenceSession) -> None:
    """Copy the memory of frame 1 to all frames before WARM_FRAMES; time does not depend on its content."""
    for index in range(2, WARM_FRAMES):
        for tracker in trackers:
            for memory in tracker.objects.values():
                memory.track(index, Page(memory.recent[-1][1], memory.pointers[-1][1]))
        for outputs in session.output_dict_per_obj.values():
            tracked = outputs["non_cond_frame_outputs"]
            tracked[index] = tracked[1]


class FrameClock:
    """Record the time of actions on frames with a full memory."""

    def __init__(self, device: str, first: int = WARM_FRAMES) -> None:
        self._device, self.read, self._first = device, choose_clock(device), first
        self.frame = 0
        self._times: dict[str, list[float]] = {}

    def time(self, name: str, action: Callable[[], Any]) -> Any:
        """Run an action and record its time."""
        self._wait()
        start = self.read()
        done = action()
        self._wait()
        if self.frame >= self._first:
            self._times.setdefault(name, []).append(self.read() - start)
        return done

    def median(self, name: str) -> float:
        """Return the median seconds per frame."""
        return statistics.median(self._times[name])

    def _wait(self) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()


@torch.inference_mode()
def time_frames(
    sam2: Sam2, sam: Sam2VideoModel, frames: Sequence[int], number: int, clock: FrameClock, *, compiled: bool
) -> float:
    """Time both on every frame, ours also with a single object; return the GFLOP per object and frame."""
    encode, step = sam2.encode_frames, track_frame
    if compiled:
        encode, step = compile_function(encode), compile_function(step)

    def follow(*inputs: Any) -> Any:
        return (step if clock.frame >= FULL_FRAMES else track_frame)(*inputs)

    parameter, drawn = next(sam2.parameters()), torch.Generator().manual_seed(0)
    masks = draw_masks(number, sam2.size, str(parameter.device))
    session = open_stock(sam, masks)
    for place, clock.frame in enumerate(frames):
        pixels = torch.randn((1, 3, sam2.size, sam2.size), generator=drawn).to(parameter)
        features: FrameFeatures = clock.time("encoder", lambda: encode(pixels))  # noqa: B023
        if clock.frame == 0:
            ours, one = (start_ours(sam2, features, some, follow) for some in (masks, masks[:1]))
        else:
            clock.time("ours", lambda: sam2.upscale(ours.step(clock.frame, features).mask_logits))  # noqa: B023
            if number > 1:
                clock.time("one", lambda: sam2.upscale(one.step(clock.frame, features).mask_logits))  # noqa: B023
        clock.time("stock", lambda: step_stock(sam, session, clock.frame, pixels))  # noqa: B023
        if clock.frame == 1 and frames[place + 1] > 2:
            fill_memories((ours, one) if number > 1 else (ours,), session)
    alone = one if number > 1 else ours
    last, clock.frame = clock.frame, 0  # uncompiled, since operations are counted as they are dispatched
    with FlopCounterMode(display=False) as counter:
        alone.step(last + 1, features)
    return counter.get_total_flops() / 1e9


def measure_size(
    model: str,
    num_frames: int,
    number: int,
    dtype: torch.dtype,
    device: str,
    *,
    side: int = 1024,
    compiled: bool = False,
    filled: bool = False,
) -> Table:
    """Time one size of SAM 2 with one number of objects."""
    avoid_cudnn()
    sam2, sam = build(model.removeprefix("hiera-"), dtype, device, side)
    clock = FrameClock(device, FULL_FRAMES + 2 if compiled else WARM_FRAMES)
    frames = [0, 1, *range(WARM_FRAMES, num_frames)] if filled else list(range(num_frames))
    flops = time_frames(sam2, sam, frames, number, clock, compiled=compiled)
    encoder, objects, stock = clock.median("encoder"), clock.median("ours"), clock.median("stock")
    part = clock.median("one" if number > 1 else "ours")
    ours, cost = encoder + objects, (encoder + objects) / (encoder + number * part)
    how = ", compiled" if compiled else ""
    how += f", {num_frames - len(frames)} memories copied from frame 1" if filled else ""
    what = f"{model} at {sam2.size} px, random weights, {str(dtype)[6:]}, {device}{how}"
    title = f"{what}, {num_frames} frames, {name_clock(clock.read)}"
    table = Table(title, ("objects", "ours, frames/s", "Transformers, frames/s", "ratio", "ours / (encoder + N parts)"))
    table.add(number, 1 / ours, 1 / stock, stock / ours, cost)
    on_gpu = device.startswith("cuda")
    bar = GPU_RATIO if on_gpu and compiled else BARS.get(number)
    if bar is not None:
        table.judge(f"ratio with {number} objects", stock / ours, bar, at_least=True)
    if on_gpu and compiled and model == "hiera-large" and number in GPU_BARS:
        table.judge(f"frames/s with {number} objects", 1 / ours, GPU_BARS[number], at_least=True)
    table.judge(f"cost with {number} objects", cost, COST_LIMIT)
    rate, peak = flops * number / objects, matrix_peak(str(dtype)[6:], device)
    table.verdicts.append(
        f"encoder {encoder:.3g} s per frame, objects {objects:.3g} s, one object {part:.3g} s and {flops:.0f} GFLOP,"
        f" at {rate:.0f} GFLOP/s, {100 * rate / peak:.0f} % of this machine's matrix peak of {peak:.0f}"
    )
    if on_gpu:
        memory = torch.cuda.max_memory_allocated() / 2**30
        table.verdicts.append(f"peak memory: {memory:.3g} GB; SAM 2.1 on an A100, published: {PUBLISHED} frames/s")
    return table


def main() -> int:
    made = parser("tracking speed relative to Transformers' session")
    made.add_argument("--model", required=True, choices=[f"hiera-{size}" for size in SIZES])
    made.add_argument("--objects", type=int, required=True)
    made.add_argument("--frames", type=int, default=24)
    made.add_argument("--dtype", default="bfloat16")
    made.add_argument("--device", default="cpu")
    made.add_argument("--threads", type=int, help="number of CPU threads")
    made.add_argument("--fill", action="store_true", help="fill the memory with copies of frame 1, which is faster")
    made.add_argument("--compile", action="store_true", help="torch.compile the image encoder and the step")
    made.add_argument("--side", type=int, default=1024, help="side of SAM 2's input, px")
    options = made.parse_args()
    warm = FULL_FRAMES + 2 if options.compile else WARM_FRAMES
    if options.frames <= warm:
        made.error(f"--frames is {options.frames}, expected more than the {warm} that fill the memory")
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    table = measure_size(
        options.model, options.frames, options.objects, dtype, options.device,
        side=options.side, compiled=options.compile, filled=options.fill,
    )  # fmt: skip
    command = repeat_command("video_speed.py", made, options)
    return report(command, [table], record=options.record, device=options.device)


if __name__ == "__main__":
    sys.exit(main())
