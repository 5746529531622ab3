"""Train a random model of a released size for three LoRA steps, with its recipe scaled in batch only.

Flow: random weights -> model folder -> recipe sa2va_1b with pictures and clips of the drawn world -> train_run
    -> trained model -> losses, peak memory, and the parts whose weights changed.
Run: OMP_NUM_THREADS=1 python benchmarks/training_full_size.py --folder SCRATCH [--batch 1]
"""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from measure import Table, parser, repeat_command, report, reset_peak, rss_mb

from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import load_checkpoint, save_checkpoint
from sa2va.checkpoints.tokenizers import load_tokenizer
from sa2va.training.mixture import DatasetShare
from sa2va.training.plan import AS_CONFIGURED, StartModel, plan_run
from sa2va.training.recipes import sa2va_1b
from sa2va.training.run import train_run
from sa2va.training.supervised import SupervisedConfig, SupervisedRun

STEPS, LIMIT_GB, WITHIN = 3, 20, 0.2
TRAINED = (
    "mllm.native.model.language_model", "mllm.native.lm_head", "mllm.native.model.multi_modal_projector", "projector",
    "sam2.native.mask_decoder",
)  # fmt: skip


def write_random(config: SupervisedRun, folder: Path) -> None:
    """Write a model with random weights: matrices by N(0, 0.02), norms 1, all others 0."""
    model, _ = StartModel.of(config).outline(config)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim >= 2 and tensor.is_floating_point():
                tensor.normal_(std=0.02)
            else:
                tensor.fill_("norm" in name and name.endswith("weight"))
    save_checkpoint(model, load_tokenizer(find_model("tiny")), folder, torch.bfloat16)


def compare(before: Path, after: Path) -> dict[str, Counter[str]]:
    """Count the changed and unchanged tensors of each part that is trained, and of the rest."""
    old, new = (load_checkpoint(path, torch.device("cpu"), torch.bfloat16)[0].state_dict() for path in (before, after))
    found: dict[str, Counter[str]] = {}
    for name, tensor in new.items():
        part = next((part for part in TRAINED if name.startswith(f"{part}.")), "the rest")
        same = name in old and torch.equal(tensor, old[name])
        found.setdefault(part, Counter())["unchanged" if same else "changed"] += 1
    return found


def main() -> int:
    made = parser("three LoRA steps of a model of a released size")
    made.add_argument("--model", default="ByteDance/Sa2VA-1B")
    made.add_argument("--folder", required=True, type=Path, help="scratch folder for two models")
    made.add_argument("--batch", type=int, default=1)
    options = made.parse_args()
    recipe = sa2va_1b()
    (stage,) = recipe.stages
    assert isinstance(stage, SupervisedConfig)
    weights = {"refseg": 1.0, "video_refseg": 2.0}
    shares = tuple(DatasetShare(name=f"world/{name}", weight=weight) for name, weight in weights.items())
    stage = replace(
        stage, datasets=shares, steps=STEPS, batch_size=options.batch, accumulate=1, gradient_checkpointing=True,
        save_every=0, save_every_s=0.0, log_every=1, num_workers=0, group_by_length=False,
    )  # fmt: skip
    run = replace(recipe, start=options.model, stages=(stage,), device="cpu", seed=1)
    start, output = options.folder / "start", options.folder / "run"
    if not start.is_dir():
        write_random(run, start)
    run = replace(run, start=str(start), output=str(output))
    memory = plan_run(run).stages[0].memory[AS_CONFIGURED]
    before = reset_peak()
    train_run(run, output, quiet=True)
    peak = (rss_mb("VmHWM") - before) / 1024
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    title = f"random {options.model}, recipe sa2va_1b with gradient checkpointing, batch {options.batch}, CPU"
    steps = Table(title, ("step", "losses", "gradient norm", "seconds since the start"))
    for line in lines:
        if "losses" in line:
            losses = ", ".join(f"{name} {value:.3f}" for name, value in line["losses"].items())
            steps.add(line["step"], losses, float(line["grad_norm"]), float(line["seconds"]))
    steps.judge("peak memory beyond the libraries, GiB", peak, LIMIT_GB)
    steps.judge("estimate of --dry-run off by", abs(memory.total / 2**30 / peak - 1), WITHIN)
    tensors = Table("tensors by part, before and after", ("part", "changed", "unchanged"))
    for part, counts in compare(start, output / "model").items():
        tensors.add(part, counts["changed"], counts["unchanged"])
        if part == "the rest":
            tensors.judge("changed tensors of frozen parts", counts["changed"], 0)
    return report(repeat_command("training_full_size.py", made, options), [steps, tensors], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
