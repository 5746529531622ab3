"""Measure the peak memory of supervised training with each saver on and off, beside the estimate of `--dry-run`.

Flow: one new process per case -> three steps of run_stage -> peak resident memory beyond that after a first small step
    -> table. The estimate leaves out what the allocator keeps, here 0.3 to 0.5 GB; training_full_size.py compares both
    at full size.
Run: OMP_NUM_THREADS=1 python benchmarks/training_memory.py [--model tiny] [--batch 8]
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from measure import Table, parser, repeat_command, report, reset_peak, rss_mb

from sa2va.training.supervised import SupervisedConfig, SupervisedRun

STEPS = 3
PLAIN = {"lora_rank": 0}
QLORA = {"quantize": "int4", "new_tokens": "rows", "trains_vision_projector": False}  # whose layers have 8 bits, too
CASES: dict[str, dict[str, Any]] = {
    "whole language model": PLAIN,
    "whole language model, gradient checkpointing": PLAIN | {"gradient_checkpointing": True},
    "LoRA": {},
    "LoRA, new rows of the embeddings": {"new_tokens": "rows"},
    "LoRA, frozen matrices in bfloat16": {"halves_frozen": True},
    "LoRA, gradient checkpointing": {"gradient_checkpointing": True},
    "LoRA, all of these": {"gradient_checkpointing": True, "halves_frozen": True, "new_tokens": "rows"},
    "QLoRA (int4)": QLORA,
    "QLoRA (int4), gradient checkpointing": QLORA | {"gradient_checkpointing": True},
}


def describe(start: str, batch: int, steps: int, changes: dict[str, Any]) -> tuple[SupervisedRun, SupervisedConfig]:
    """Return the run of a case: pictures and clips of the drawn world, with the paper's losses."""
    from sa2va.world.training.recipes import world_supervised

    run = world_supervised()
    stage = run.stages[0]
    assert isinstance(run, SupervisedRun) and isinstance(stage, SupervisedConfig)
    shares = tuple(replace(share, weight=1.0) for share in stage.datasets if share.name.endswith("refseg"))
    stage = replace(
        stage, steps=steps, batch_size=batch, datasets=shares, num_workers=0, save_every=0, save_every_s=0.0,
        log_every=1, **changes,
    )  # fmt: skip
    return replace(run, start=start, stages=(stage,), device="cpu"), stage


def train_once(start: str, batch: int, steps: int, changes: dict[str, Any]) -> list[float]:
    """Train a case in this process; return the seconds at the end of each step."""
    import torch

    from sa2va.checkpoints.quantize import quantize_mllm
    from sa2va.training.finetune import leave_out_of_states
    from sa2va.training.logger import RunLogger
    from sa2va.training.stage import RunContext
    from sa2va.training.trainer import run_stage

    settings = {name: value for name, value in changes.items() if name != "quantize"}
    run, stage_config = describe(start, batch, steps, settings)
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as scratch, RunLogger(scratch, quiet=True, tensorboard=False) as logger:
        folder = Path(scratch)
        model, processor = run.build_model(folder)
        if kind := changes.get("quantize"):
            quantize_mllm(model, kind, device)
            leave_out_of_states(model)
        context = RunContext(model=model, processor=processor, seed=0, folder=folder, device=device)
        run_stage(stage_config.build(context), folder, device, logger)
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["seconds"] for line in lines if "losses" in line]


def measure_one(start: str, batch: int, steps: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the peak memory and the time of a step of a case, beyond what a first small step leaves behind."""
    train_once(start, 1, 1, changes)  # imports libraries and compiles kernels
    before = reset_peak()
    times = train_once(start, batch, steps, changes)
    return {"peak": rss_mb("VmHWM") - before, "seconds": (times[-1] - times[0]) / (len(times) - 1)}


def estimate(start: str, batch: int, changes: dict[str, Any]) -> float:
    """Return the estimate of the dry run, MB."""
    from sa2va.training.plan import AS_CONFIGURED, plan_run

    run, _ = describe(start, batch, STEPS, {k: v for k, v in changes.items() if k != "quantize"})
    return plan_run(run).stages[0].memory[AS_CONFIGURED].total / 2**20


def main() -> int:
    made = parser("peak memory of supervised training")
    made.add_argument("--model", default="tiny", help="tiny, or a model folder")
    made.add_argument("--batch", type=int, default=8)
    made.add_argument("--steps", type=int, default=STEPS)
    made.add_argument("--case", help="measure one case in this process and print JSON")
    options = made.parse_args()
    if options.case:
        print(json.dumps(measure_one(options.model, options.batch, options.steps, dict(CASES[options.case]))))
        return 0
    title = f"supervised training of {options.model}, batch {options.batch}, {options.steps} steps, CPU"
    table = Table(title, ("case", "peak, MB", "estimate, MB", "estimate / peak", "step, s"))
    for name, changes in CASES.items():
        command = [sys.executable, __file__, "--model", options.model, "--batch", str(options.batch), "--case", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            table.add(name, done.stderr.strip().splitlines()[-1][:200], "", "", "")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        planned = None if "quantize" in changes else estimate(options.model, options.batch, changes)
        ratio = "" if planned is None else planned / found["peak"]
        table.add(name, found["peak"], "" if planned is None else planned, ratio, found["seconds"])
    return report(repeat_command("training_memory.py", made, options), [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
