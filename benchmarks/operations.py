"""Count launches, graph breaks and host waits of a frame and of a token.

Flow: SAM 2 and the language model at their true sizes on a pretended GPU -> operations when run eagerly, kernels when
    compiled; the embedded model on a pretended GPU that computes -> host waits, and the operations of a token.
Run: python benchmarks/operations.py [--sam large] [--part encoder step token waits]
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from inductor_count import DEVICE, Launches, count_compiled, count_eager, pretend, pretended_gpu, register
from measure import Table, parser, repeat_command, report
from support.fake_device import Counts, FakeDevice

import sa2va
from sa2va.checkpoints.released import RELEASED
from sa2va.checkpoints.sam2_sizes import SIZES, sam2_config
from sa2va.inference.kv_cache import KvCache
from sa2va.inference.predictor import Predictor
from sa2va.model.mllm import Mllm
from sa2va.model.sam.sam2 import Sam2
from sa2va.model.sam.tracker import Tracker, track_frame

PARTS = ("encoder", "step", "token", "waits")
STEP_BARS = {1: 200, 8: 220}  # by number of objects
TOKEN_BAR = 12  # per layer
FULL = 18  # frames until the memory is full, object pointers included
PROMPT = 300  # tokens before the answer
COLUMNS_OF_TABLE = ("part", "eager: operations", "compiled: kernels and library calls", "graph breaks", "host waits")


def count_encoder(sam2: Sam2) -> tuple[Launches, Launches]:
    """Count the image encoder: eager and compiled."""
    pixels = torch.zeros(1, 3, sam2.size, sam2.size, dtype=torch.bfloat16, device=DEVICE)
    return count_eager(lambda: sam2.encode_frames(pixels)), count_compiled(sam2.encode_frames, pixels)


def count_step(sam2: Sam2, number: int) -> tuple[Launches, Launches]:
    """Count one step of the tracker with a full memory: eager and compiled."""
    pixels = torch.zeros(1, 3, sam2.size, sam2.size, dtype=torch.bfloat16, device=DEVICE)
    features, seen = sam2.encode_frames(pixels), []

    def follow(*inputs: Any) -> Any:
        seen[:] = [inputs]
        return track_frame(*inputs)

    tracker = Tracker(sam2, follow=follow)
    sparse = sam2.language_prompt(torch.zeros(number, sam2.width, dtype=torch.bfloat16, device=DEVICE), number)
    rows = features.expand(number)
    tracker.prompt(0, features, sam2.decode(sam2.without_memory(rows.embeds), rows.high_res, sparse))
    for frame in range(1, FULL):
        tracker.step(frame, features)
    eager = count_eager(lambda: tracker.step(FULL, features))
    compiled = count_compiled(track_frame, *seen[0])
    around = eager.kernels - count_eager(lambda: track_frame(*seen[0])).kernels  # memories are read and written
    return eager, replace(compiled, kernels=compiled.kernels + around)


def count_token(num_layers: int) -> Launches:
    """Count one compiled token of Sa2VA-1B's language model with some of its layers."""
    config = RELEASED["ByteDance/Sa2VA-1B"].config
    text_config = config.mllm["text_config"] | {"num_hidden_layers": num_layers, "layer_types": None}
    mllm = pretend(lambda: Mllm(config.family, config.mllm | {"text_config": text_config}))
    text = mllm.native.config.get_text_config()
    cache = KvCache(text.num_hidden_layers)
    width = text.hidden_size // text.num_attention_heads
    prompt = torch.zeros(1, text.num_key_value_heads, PROMPT, width, dtype=torch.bfloat16, device=DEVICE)
    for layer in range(text.num_hidden_layers):
        cache.update(prompt, prompt, layer)
    column = torch.zeros(1, dtype=torch.long, device=DEVICE)
    visible = torch.ones(1, 1, 1, cache.reserve_token(), dtype=torch.bool, device=DEVICE)

    def step(token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return mllm.logits(mllm.token_step(token_ids, positions, visible, cache)).argmax(-1)

    with cache.writing_at(column):
        return count_compiled(step, column.clone(), column.clone())


def track_embedded(device: FakeDevice, predictor: Predictor) -> Iterator[Counts]:
    """Track one object with the embedded model; yield the counts of each frame with a full memory."""
    frames = np.random.default_rng(0).integers(0, 256, (FULL + 3, 120, 160, 3), dtype=np.uint8)
    with predictor.track(frames, prefetch=False) as session:
        session.add(box=(20, 20, 60, 60))
        for result in session:
            counts = device.take()
            if result.index >= FULL:
                yield counts


def answer_embedded(device: FakeDevice, predictor: Predictor) -> Iterator[Counts]:
    """Answer a question with the embedded model; yield the counts of each token but the first."""
    picture = np.zeros((120, 160, 3), np.uint8)
    device.take()
    for number, _ in enumerate(predictor.open(picture).stream("Please segment the red circle.")):
        counts = device.take()
        if number:
            yield counts


def fill(table: Table, parts: list[str], size: str) -> None:
    """Count the chosen parts."""
    if "waits" in parts:  # first, as the other pretended GPU replaces attention
        wait(table)
    register()
    with pretended_gpu():
        sam2 = pretend(lambda: Sam2(sam2_config(SIZES[size])))
        if "encoder" in parts:
            eager, compiled = count_encoder(sam2)
            table.add(f"encoder, hiera-{size}", eager.kernels, compiled.kernels, compiled.graphs - 1, "")
            table.judge("encoder, graph breaks", compiled.graphs - 1, 0)
        for number, bar in STEP_BARS.items() if "step" in parts else ():
            eager, compiled = count_step(sam2, number)
            name = f"step, {number} object{'s' * (number > 1)}, full memory"
            table.add(name, eager.kernels, compiled.kernels, compiled.graphs - 1, "")
            table.judge(f"{name}, kernels", compiled.kernels, bar)
            table.judge(f"{name}, graph breaks", compiled.graphs - 1, 0)
        if "token" in parts:
            fewer, compiled = count_token(4), count_token(8)
            layer = (compiled.kernels - fewer.kernels) / 4
            table.add("token, per layer (Sa2VA-1B)", "", layer, compiled.graphs - 1, "")
            table.add("token, without layers (Sa2VA-1B)", "", fewer.kernels - 4 * layer, "", "")
            table.judge("token, kernels per layer", layer, TOKEN_BAR)
            table.judge("token, graph breaks", compiled.graphs - 1, 0)


def wait(table: Table) -> None:
    """Count the waits of the embedded model."""
    predictor = sa2va.load("tiny", device="cpu")
    layers = predictor.model.mllm.native.config.get_text_config().num_hidden_layers
    with FakeDevice() as device:
        device.put(predictor.model)
        device.take()
        for name, counts, per in (
            ("frame, all steps, 1 object (embedded model)", list(track_embedded(device, predictor)), 1),
            ("token, per layer (embedded model)", list(answer_embedded(device, predictor)), layers),
        ):
            waits = max(len(one.waits) for one in counts)
            table.add(name, median(one.num_launches for one in counts) / per, "", "", waits)
            table.judge(f"{name.split(',')[0]}, host waits", waits, 1)


def main() -> int:
    made = parser("launches, graph breaks and host waits")
    made.add_argument("--sam", choices=tuple(SIZES), default="large", help="size of SAM 2")
    made.add_argument("--part", nargs="+", choices=PARTS, help="parts to count, all by default")
    options = made.parse_args()
    table = Table(f"SAM 2 hiera-{options.sam} at 1024 px, bfloat16", COLUMNS_OF_TABLE)
    fill(table, options.part or list(PARTS), options.sam)
    return report(repeat_command("operations.py", made, options), [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
