"""Measure the time of each stage and the peak memory of one image, with random weights of a released size.

Flow: one new process per dtype -> stages with one and with five [SEG] -> tables.
Run: python benchmarks/image_speed.py [--model ByteDance/Sa2VA-1B] [--dtype float32] [--device cuda]
"""

import json
import subprocess
import sys
from dataclasses import replace

from measure import Table, choose_clock, name_clock, parser, repeat_command, report, rss_mb, seconds

ANSWER_TOKENS = 16
DTYPES = ("bfloat16", "float32")
NUM_OBJECTS = (1, 5)
MASK_LIMIT, PEAK_LIMIT_GB, PEAK_SHARE_GOAL = 1.3, 3.5, 0.6
STAGES = ("vision", "prefill", "decode", "SAM 2 encoder", "mask decoder")


def build(name: str, dtype: str, device: str):
    """Build a predictor with random weights and the embedded model's tokenizer; "tiny" has its shapes as well."""
    import torch

    from sa2va.checkpoints.find import find_model
    from sa2va.checkpoints.folder import load_config
    from sa2va.checkpoints.released import RELEASED
    from sa2va.checkpoints.tokenizers import load_tokenizer
    from sa2va.inference.predictor import Predictor
    from sa2va.model.processor import Processor
    from sa2va.model.sa2va import Sa2VA

    folder = find_model("tiny")
    config = embedded = load_config(folder)
    if name != "tiny":
        config = RELEASED[name].config
        config = replace(config, mllm=config.mllm | {"image_token_id": embedded.mllm["image_token_id"]})
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(device):
        model = Sa2VA(config)
    torch.set_default_dtype(torch.float32)
    return Predictor(model.eval().requires_grad_(False), Processor(config, load_tokenizer(folder)))


def time_stages(predictor, num_objects: int) -> dict[str, float]:
    """Time the stages of an image of one tile with a forced answer: medians, s."""
    import numpy as np
    import torch

    from sa2va.inference.decoding import TextStream
    from sa2va.model.seg_design import one_frame_rows
    from sa2va.types import Turn

    model, processor = predictor.model, predictor.processor
    side = model.config.tile_size
    frames = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    prompts = processor.prompts([(Turn(question="Please segment it.", answer=""), [frames])]).to(predictor.device)
    pixels = processor.sam_pixel_values(frames).to(predictor.device, predictor.dtype)
    filler = processor.tokenizer.encode(" it", add_special_tokens=False)[0]
    answer = torch.tensor([[processor.seg_id] * num_objects + [filler] * (ANSWER_TOKENS - num_objects)])
    embeds = model.mllm.embed_tokens(answer.to(predictor.device))
    rows = one_frame_rows(torch.zeros(num_objects, dtype=torch.long, device=predictor.device))

    def wait() -> None:
        if predictor.device.type == "cuda":
            torch.cuda.synchronize()

    def prefill():
        stream = TextStream(model.mllm)
        stream.start(inputs)
        return stream

    clock = choose_clock(predictor.device.type)

    def decode():
        stream = prefill()
        wait()
        return seconds(lambda: ([stream.append(embeds[:, i : i + 1]) for i in range(ANSWER_TOKENS)], wait()), 1, clock)

    def time(action) -> float:
        return seconds(lambda: (action(), wait()), clock=clock)

    with torch.inference_mode():
        inputs = model.encode(prompts)
        states = prefill().append(embeds)[0, :num_objects]
        features = model.sam2.encode_frames(pixels)
        return {
            "vision": time(lambda: model.encode(prompts)),
            "prefill": time(prefill),
            "decode": min(decode() for _ in range(3)),
            "SAM 2 encoder": time(lambda: model.sam2.encode_frames(pixels)),
            "mask decoder": time(lambda: model.decode_masks(states, features, rows)),
        }


def matrix_peak(dtype: str, device: str) -> float:
    """Measure the peak rate of a large matrix product, GFLOP/s."""
    import torch

    size = 4096 if device == "cpu" else 8192
    a, b = (torch.randn(size, size, dtype=getattr(torch, dtype), device=device) for _ in range(2))

    def multiply() -> None:
        (a @ b).sum().item()

    multiply()
    return 2 * size**3 / min(seconds(multiply, 1, choose_clock(device)) for _ in range(4)) / 1e9


def encoder_flops(predictor) -> float:
    """Count the operations of the SAM 2 encoder per frame, GFLOP."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    sam2 = predictor.model.sam2
    pixels = torch.zeros(1, 3, sam2.size, sam2.size, dtype=predictor.dtype, device=predictor.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        sam2.encode_frames(pixels)
    return counter.get_total_flops() / 1e9


def measure_one(name: str, dtype: str, device: str) -> dict[str, object]:
    """Measure one dtype in this process."""
    import torch

    predictor = build(name, dtype, device)
    loaded = rss_mb()
    times = {str(n): time_stages(predictor, n) for n in NUM_OBJECTS}
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else rss_mb("VmHWM")
    flops, rate = encoder_flops(predictor), matrix_peak(dtype, device)
    parameters = sum(p.numel() for p in predictor.model.parameters())
    return {
        "times": times, "peak": peak, "loaded": loaded, "flops": flops, "rate": rate, "parameters": parameters,
        "clock": name_clock(choose_clock(device)),
    }  # fmt: skip


def tabulate(name: str, dtype: str, found: dict) -> Table:
    times = found["times"]
    one, five = times["1"], times["5"]
    parameters = f"{found['parameters'] / 1e9:.2f} billion parameters"
    title = f"{name}, random weights, {parameters}, one tile, {dtype}, {found['clock']}"
    table = Table(title, ("stage", "1 [SEG], s", "share", "5 [SEG], s", "share"))
    for stage in STAGES:
        shares = [f"{100 * t[stage] / sum(t.values()):.0f} %" for t in (one, five)]
        table.add(stage, one[stage], shares[0], five[stage], shares[1])
    table.add("all", sum(one.values()), "", sum(five.values()), "")
    mask = [t["SAM 2 encoder"] + t["mask decoder"] for t in (one, five)]
    table.judge("mask path, five objects / one", mask[1] / mask[0], MASK_LIMIT)
    if dtype == "bfloat16":
        table.judge("peak memory, GB", found["peak"] / 1024, PEAK_LIMIT_GB)
    else:
        table.verdicts.append(f"peak memory: {found['peak'] / 1024:.2f} GB")
    rate = found["flops"] / one["SAM 2 encoder"]
    share = rate / found["rate"]
    table.verdicts.append(
        f"SAM 2 encoder: {found['flops']:.0f} GFLOP at {rate:.0f} GFLOP/s, {100 * share:.0f} % of this machine's matrix"
        f" peak of {found['rate']:.0f} (goal: {100 * PEAK_SHARE_GOAL:.0f} %)"
    )
    return table


def main() -> int:
    made = parser("time and memory of one image, stage by stage")
    made.add_argument("--model", default="ByteDance/Sa2VA-1B")
    made.add_argument("--device", default="cpu")
    made.add_argument("--dtype", choices=DTYPES, help="data type, both by default; skip bfloat16 where it is emulated")
    made.add_argument("--only", help="data type to measure in this process, printing JSON")
    options = made.parse_args()
    if options.only:
        print(json.dumps(measure_one(options.model, options.only, options.device)))
        return 0
    tables = []
    for dtype in (options.dtype,) if options.dtype else DTYPES:
        command = [sys.executable, __file__, "--model", options.model, "--device", options.device, "--only", dtype]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        tables.append(tabulate(options.model, dtype, json.loads(done.stdout.splitlines()[-1])))
    return report(repeat_command("image_speed.py", made, options), tables, record=options.record, device=options.device)


if __name__ == "__main__":
    sys.exit(main())
