"""Compare time, memory and masks with a plain loop over the stock modules that does what the released code does.

Flow: rows x {loop, ours} x dtypes, each in a process of its own -> JSON and masks in a folder, where an interrupted
    run resumes -> table of ratios. Both sides get the same random weights, frames and forced answer; ours goes through
    Predictor.predict, as users do. The float32 loop of the longest clips is left out, for its time.
Run: python benchmarks/peers.py --work FOLDER [--row clip ...] [--dtype bfloat16] [--size tiny] [--device cuda]
Shapes: N objects, T frames, H W picture, h w logit grid.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from image_speed import DTYPES, build, matrix_peak
from measure import Table, choose_clock, name_clock, parser, repeat_command, report, reset_peak, rss_mb, seconds
from numpy.typing import NDArray
from plain_loop import NUM_PROMPTED, PlainLoop
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sa2va.checkpoints.device import choose_dtype
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options

WHO = ("loop", "ours")
QUESTION, FOLLOW_UP = "Please segment the red circle.", "And what is left of it?"
NUM_TOKENS = 16  # of an answer, its end included
MEMORY_LIMIT, FLAT_LIMIT = 0.8, 1.1
PEAK_SHARE = 0.85
FOLLOW_UP_LIMIT = 0.25
DEFAULT_BARS = {"tile": 2.0, "clip": 3.0}  # our default dtype against the loop in float32
IOU_LIMIT = 0.999  # in float32
PICTURE_LIMIT = {"ByteDance/Sa2VA-4B": 0.2}  # s, on a GPU
GPU_REPEATS = 3

Measured = dict[tuple[str, str, str], dict[str, Any]]  # by row, side and dtype
Found = tuple[list[NDArray[np.bool_]], list[Tensor]]  # per object its masks (T, H, W) and logits (T, h, w)


@dataclass(frozen=True)
class Row:
    """One case."""

    title: str
    height: int = 400  # px
    width: int = 400  # px
    num_frames: int = 1
    num_objects: int = 1
    bar: float | None = None  # least ratio of the times
    dtypes: Sequence[str] = DTYPES


ROWS = {
    "tile": Row("image, 1 tile", bar=1.25),
    "tiles": Row("image, 12 tiles", 480, 640, bar=1.6),
    "objects": Row("image, 1 tile, 3 [SEG]", num_objects=3, bar=2.4),
    "clip": Row("7 frames, 1 object", 480, 640, 7, bar=1.8),
    "clips": Row("7 frames, 3 objects", 480, 640, 7, 3, bar=4.0, dtypes=("bfloat16",)),
    "long": Row("40 frames, 1 object", 480, 640, 40, bar=2.5, dtypes=("bfloat16",)),
    "second": Row("second question on the image"),
}
TINY = {"height": 96, "width": 128}  # px, of every row of the tiny size
TINY_FRAMES = 14  # of the longest clip; the memory is full


class ForcedAnswer:
    """Make the head of a language model choose given tokens, one per call."""

    def __init__(self, head: nn.Module, token_ids: Sequence[int]) -> None:
        self.token_ids, self._place = list(token_ids), 0
        head.register_forward_hook(self._force)

    def restart(self) -> None:
        """Force the answer from its first token."""
        self._place = 0

    def _force(self, head: nn.Module, args: object, logits: Tensor) -> Tensor:
        logits[..., self.token_ids[self._place]] = torch.inf
        self._place += 1
        return logits


class Ours:
    """Answer as users do, and record the logits of the masks."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self._chat = predictor, predictor.open(np.zeros((8, 8, 3), np.uint8))
        self._logits: list[Tensor] = []
        sam2 = predictor.model.sam2
        enlarge = sam2.enlarge

        def record(mask_logits: Tensor, height: int, width: int) -> Tensor:
            self._logits.append(mask_logits.float().clone())
            return enlarge(mask_logits, height, width)

        sam2.enlarge = record  # ty: ignore[invalid-assignment]

    def begin(self, frames: NDArray[np.uint8], question: str, num_tokens: int) -> Found:
        """Start a conversation about a picture with a first question."""
        self._chat = self._predictor.open(frames[0])
        return self._collect(self._chat.ask(question, options=Options(max_new_tokens=num_tokens)))

    def predict(self, frames: NDArray[np.uint8], question: str, num_tokens: int, before: object = None) -> Found:
        """Answer and segment, in the conversation if there is a turn before; see `PlainLoop.predict`."""
        options = Options(max_new_tokens=num_tokens)
        if before is not None:
            return self._collect(self._chat.ask(question, options=options))
        media = frames if len(frames) > 1 else frames[0]
        return self._collect(self._predictor.predict(media, question, options=options))

    def _collect(self, prediction: Any) -> Found:
        logits = torch.stack(self._logits, 1).cpu()  # (N, T, h, w)
        self._logits.clear()
        assert len(logits) == len(prediction.objects), "logits of every object on every frame"
        return [found.masks for found in prediction.objects], list(logits)


def prepare(options: Namespace, row: Row) -> tuple[PlainLoop | Ours, ForcedAnswer, NDArray[np.uint8], int]:
    """Build one side with its forced answer, the frames, and the number of parameters."""
    predictor = build(options.model, options.dtype, options.device)
    processor, model = predictor.processor, predictor.model
    model.config = replace(
        model.config, keyframes="first", num_keyframes=NUM_PROMPTED, sure_keyframes=0.0, gate_absent=False
    )
    filler = processor.tokenizer.encode(" it", add_special_tokens=False)[0]
    answer = [filler, *[processor.seg_id] * row.num_objects]
    answer += [filler] * (NUM_TOKENS - 1 - len(answer)) + [processor.end_ids[0]]
    side = PlainLoop(predictor) if options.who == "loop" else Ours(predictor)
    native = side.mllm if isinstance(side, PlainLoop) else model.mllm.native
    frames = np.random.default_rng(0).integers(0, 256, (row.num_frames, row.height, row.width, 3), dtype=np.uint8)
    return side, ForcedAnswer(native.lm_head, answer), frames, sum(one.numel() for one in model.parameters())


def measure(options: Namespace, name: str, row: Row) -> dict[str, Any]:
    """Measure one row of one side in this process; save masks and logits beside the JSON."""
    on_gpu = options.device.startswith("cuda")
    if not on_gpu:
        torch.set_num_threads(1)
    side, forced, frames, parameters = prepare(options, row)
    clock, found, matrix, first = choose_clock(options.device), list[Found](), {}, 0.0
    said = {"before": (QUESTION, forced.token_ids[:-1])} if name == "second" else {}

    def run(step: Callable[..., Found], question: str, **said: Any) -> float:
        def answer() -> None:
            forced.restart()
            found[:] = [step(frames, question, NUM_TOKENS, **said)]
            if on_gpu:
                torch.cuda.synchronize()

        return seconds(answer, 1, clock)

    loaded, times = reset_peak(options.device), []
    for _ in range(1 + on_gpu * GPU_REPEATS):  # the first one warms up
        if said and isinstance(side, Ours):
            first = run(side.begin, QUESTION)
        times.append(run(side.predict, FOLLOW_UP if said else QUESTION, **said))
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else rss_mb("VmHWM")
    if name == "tile" and options.who == "ours" and options.size == "full" and not on_gpu:
        matrix = matrix_work(lambda: run(side.predict, QUESTION)) | {"peak": matrix_peak(options.dtype, options.device)}
    masks, logits = found[0]
    path = options.work / f"{name}-{options.who}-{options.dtype}.npz"
    np.savez_compressed(path, masks=np.stack(masks), logits=torch.stack(logits).numpy())
    time = statistics.median(times[on_gpu:])
    figures = {"seconds": time, "first": first, "loaded": loaded, "work": peak - loaded}
    return figures | {"matrix": matrix, "parameters": parameters}


def matrix_work(action: Callable[[], object]) -> dict[str, float]:
    """Count the matrix operations of an action, GFLOP, and their time and all time, s."""
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def count_flash(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
        (*batch, rows, width), keys = query, key[-2]
        return int(np.prod(batch)) * 2 * rows * keys * (width + value[-1])

    products = ("mm", "addmm", "bmm", "baddbmm", "mkldnn_convolution", "slow_conv2d_forward", "_slow_conv2d_forward")
    names = {f"aten::{name}" for name in (*products, "thnn_conv2d", flash.__name__)}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        with FlopCounterMode(display=False, custom_mapping={flash: count_flash}) as counter:
            total = seconds(action, 1)
    spent = sum(event.self_cpu_time_total for event in profile.key_averages() if event.key in names) / 1e6
    return {"flops": counter.get_total_flops() / 1e9, "spent": spent, "total": total}


def collect(options: Namespace) -> Measured:
    """Measure whatever the folder lacks."""
    options.work.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, who in product(options.row or ROWS, WHO):
        row = scale(ROWS[name], options.size)
        for dtype in [one for one in row.dtypes if options.dtype in (None, one)]:
            path = options.work / f"{name}-{who}-{dtype}.json"
            setup = {"model": options.model, "device": options.device, "torch": torch.__version__, **asdict(row)}
            setup |= {"dtypes": list(row.dtypes)}
            if not path.exists() or json.loads(path.read_text())["setup"] != setup:
                measured = run_one(options, name, who, dtype)
                path.write_text(json.dumps({"setup": setup, **measured}))
                print(f"{name} {who} {dtype}: {measured['seconds']:.3g} s", file=sys.stderr, flush=True)
            found[name, who, dtype] = json.loads(path.read_text())
    return found


def run_one(options: Namespace, name: str, who: str, dtype: str) -> dict[str, Any]:
    """Measure in a new process, whose peak memory is its own; in this one at the tiny size and on a GPU."""
    if options.size == "tiny" or options.device.startswith("cuda"):
        one = Namespace(**vars(options) | {"who": who, "dtype": dtype})
        return measure(one, name, scale(ROWS[name], options.size))
    command = [sys.executable, __file__, "--row", name, "--who", who, "--dtype", dtype, "--work", str(options.work)]
    command += ["--model", options.model, "--device", options.device]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def scale(row: Row, size: str) -> Row:
    """Return a row at a size of the models."""
    return replace(row, **TINY, num_frames=min(row.num_frames, TINY_FRAMES)) if size == "tiny" else row


def agree(work: Path, name: str, dtype: str) -> tuple[float, float]:
    """Return the smallest IoU of an object's masks over all frames, and the largest difference of logits."""
    one, other = (np.load(work / f"{name}-{who}-{dtype}.npz") for who in WHO)
    both, any_ = (operation(one["masks"], other["masks"]) for operation in (np.logical_and, np.logical_or))
    common, union = (masks.sum((1, 2, 3)) for masks in (both, any_))  # (N, T, H, W) -> (N,)
    ious = np.where(union == 0, 1.0, common / np.maximum(union, 1))
    return float(ious.min()), float(np.abs(one["logits"] - other["logits"]).max())


def tabulate(options: Namespace, found: Measured) -> Table:
    """Build the table and its verdicts."""
    clock = name_clock(choose_clock(options.device))
    title = f"{options.model}, random weights, {NUM_TOKENS} tokens per answer, {options.device}, {clock}"
    columns = ("case", "dtype", "plain loop, s", "ours, s", "ratio", "work memory, MB: plain loop", "ours", "share")
    table = Table(title, (*columns, "IoU of the masks", "largest difference of logits"))
    judged = options.size == "full" and options.device == "cpu"
    for name, _, dtype in [key for key in found if key[1] == "ours"]:
        loop, ours, row = found[name, "loop", dtype], found[name, "ours", dtype], ROWS[name]
        ratio, share = loop["seconds"] / ours["seconds"], ours["work"] / loop["work"]
        iou, difference = agree(options.work, name, dtype)
        memory = (f"{loop['work']:.0f}", f"{ours['work']:.0f}", share)
        table.add(row.title, dtype, loop["seconds"], ours["seconds"], ratio, *memory, f"{iou:.4f}", f"{difference:.1g}")
        case = f"{row.title}, {dtype}"
        if dtype == "float32":
            table.judge(f"{case}, IoU of the masks", iou, IOU_LIMIT, at_least=True)
        if name == "tile" and options.model in PICTURE_LIMIT and not judged:
            table.judge(f"{case}, s", ours["seconds"], PICTURE_LIMIT[options.model])
        if judged:
            if row.bar is not None:
                table.judge(f"{case}, plain loop / ours", ratio, row.bar, at_least=True)
            table.judge(f"{case}, work memory, ours / plain loop", share, MEMORY_LIMIT)
        if judged and ours["first"]:
            table.judge(f"{case}, second / first question", ours["seconds"] / ours["first"], FOLLOW_UP_LIMIT)
        if ours["matrix"]:
            judge_peak(table, case, ours["matrix"])
    if judged:
        judge_all(table, found, options.device)
    return table


def judge_peak(table: Table, case: str, matrix: dict[str, float]) -> None:
    """Add the share of the matrix peak."""
    rate, overall = matrix["flops"] / matrix["spent"], matrix["flops"] / matrix["total"]
    table.judge(f"{case}, share of the matrix peak in matrix work", rate / matrix["peak"], PEAK_SHARE, at_least=True)
    table.verdicts.append(
        f"{case}: {matrix['flops']:.0f} GFLOP, {matrix['spent']:.3g} s of {matrix['total']:.3g} s in matrix work, at"
        f" {rate:.0f} GFLOP/s of a peak of {matrix['peak']:.0f}; over all time {100 * overall / matrix['peak']:.0f} %"
    )


def judge_all(table: Table, found: Measured, device: str) -> None:
    """Compare our default dtype with the loop's, which is float32, and our memory for clips of two lengths."""
    number = next(iter(found.values()))["parameters"]
    default = str(choose_dtype("auto", torch.device(device), number)).removeprefix("torch.")
    for name, bar in DEFAULT_BARS.items():
        loop, ours = found.get((name, "loop", "float32")), found.get((name, "ours", default))
        if loop and ours:
            what = f"{ROWS[name].title}, plain loop in float32 / ours by default ({default})"
            table.judge(what, loop["seconds"] / ours["seconds"], bar, at_least=True)
    short, long = found.get(("clip", "ours", "bfloat16")), found.get(("long", "ours", "bfloat16"))
    if short and long:
        table.judge("our work memory, 40 frames / 7 frames, bfloat16", long["work"] / short["work"], FLAT_LIMIT)


def main() -> int:
    made = parser("time, memory and masks beside a plain loop over the stock modules")
    made.add_argument("--model", default="ByteDance/Sa2VA-1B")
    made.add_argument("--size", choices=("full", "tiny"), default="full", help="tiny: the embedded model's shapes")
    made.add_argument("--device", default="cpu")
    made.add_argument("--dtype", choices=DTYPES, help="data type, both by default")
    made.add_argument("--row", nargs="+", choices=tuple(ROWS), help="rows to measure, all by default")
    made.add_argument("--work", type=Path, help="folder for the measurements; those found in it are kept")
    made.add_argument("--who", choices=WHO, help="measure this side of one row in this process, printing JSON")
    options = made.parse_args()
    if options.size == "tiny":
        options.model = "tiny"
    if not any(options.dtype in (None, *ROWS[name].dtypes) for name in options.row or ROWS):
        made.error(f"--dtype is {options.dtype}, which these rows are not measured in; leave it out")
    if options.who:
        print(json.dumps(measure(options, options.row[0], ROWS[options.row[0]])))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        options.work = options.work or Path(scratch)
        table = tabulate(options, collect(options))
    options.work = made.get_default("work")
    return report(repeat_command("peers.py", made, options), [table], record=options.record, device=options.device)


if __name__ == "__main__":
    sys.exit(main())
