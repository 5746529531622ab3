"""Time a training step of the embedded model: forward, backward and update, of pictures and of tracked clips.

Flow: joint stage of the recipe "tiny" -> one batch of each kind, rendered beforehand -> median seconds of a step.
Run: python benchmarks/train_step.py [--batch 16] [--device cuda]
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from measure import Table, choose_clock, name_clock, parser, repeat_command, report, reset_peak, rss_mb, seconds

from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import load_checkpoint
from sa2va.model.batch import move
from sa2va.training.stage import RunContext
from sa2va.world.training.cotrain import CotrainConfig, CotrainData

MAX_STEPS = 100  # steps of the stage, among which both kinds of batches are found
KINDS = {"refseg": "pictures, one object each", "video_refseg": "clips, tracked"}  # by group of tasks


def draw_batches(data: CotrainData) -> dict[str, Any]:
    """Render the first batch of each kind."""
    batches: dict[str, Any] = {}
    for step in range(MAX_STEPS):
        kind = KINDS.get(data.plan(step)[0].group)
        if kind and kind not in batches:
            batches[kind] = data.collate([data[key] for key in data.keys(step)])
    return batches


def main() -> int:
    made = parser("training step of the embedded model")
    made.add_argument("--batch", type=int, default=16, help="pictures in a batch")
    made.add_argument("--repeats", type=int, default=3, help="timed steps")
    made.add_argument("--device", default="cpu")
    options = made.parse_args()
    device = torch.device(options.device)
    model, processor = load_checkpoint(find_model("tiny"), torch.device("cpu"), torch.float32)
    config = CotrainConfig(name="cotrain", steps=MAX_STEPS, batch_size=options.batch, lr=1e-4)
    with tempfile.TemporaryDirectory() as scratch:
        context = RunContext(model=model, processor=processor, seed=0, folder=Path(scratch), device=device)
        stage = config.build(context)
    module, clock = stage.module.to(device).train(), choose_clock(options.device)
    optimizer = torch.optim.AdamW(stage.parameters(), lr=config.lr)
    title = f"embedded model, joint stage, bf16 autocast, {options.device}, {name_clock(clock)} per step"
    table = Table(title, ("batch", "samples", "step", "samples per second", "memory beyond the model, MB"))
    for kind, drawn in draw_batches(stage.data).items():
        batch = move(drawn, device)

        def step(batch: Any = batch) -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16):
                terms = module(batch)
            sum(term.weight * term.mean for term in terms.values()).backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()

        before = reset_peak(options.device)
        step()
        peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else rss_mb("VmHWM")
        taken, number = seconds(step, options.repeats, clock), len(drawn.batch.input_ids)
        table.add(kind, number, taken, number / taken, f"{peak - before:.0f}")
    return report(repeat_command("train_step.py", made, options), [table], record=options.record, device=options.device)


if __name__ == "__main__":
    sys.exit(main())
