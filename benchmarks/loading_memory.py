"""Measure the peak memory of loading a float32 checkpoint of a released size in bfloat16.

Flow: sharded checkpoint of zeros -> loaded in a new process -> peak anonymous memory relative to the weights.
Run: python benchmarks/loading_memory.py [--model ByteDance/Sa2VA-4B] [--scratch FOLDER]
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from measure import Table, parser, report, rss_mb

LIMIT = 1.25
POLL_INTERVAL = 0.02  # s


def write_folder(name: str, folder: Path) -> None:
    """Write a model folder in our layout with the embedded tokenizer and float32 zeros."""
    import torch

    from sa2va.checkpoints.find import find_model
    from sa2va.checkpoints.folder import build_empty, load_config
    from sa2va.checkpoints.released import RELEASED
    from sa2va.checkpoints.shards import write_shards
    from sa2va.checkpoints.tokenizers import load_tokenizer

    tiny = find_model("tiny")
    config = RELEASED[name].config
    config = replace(config, mllm=config.mllm | {"image_token_id": load_config(tiny).mllm["image_token_id"]})
    shapes = {key: value.shape for key, value in build_empty(config).state_dict().items()}
    outlines = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    write_shards(folder, outlines, ((key, torch.zeros(shape)) for key, shape in shapes.items()))
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    load_tokenizer(tiny).save_pretrained(folder)


def load_and_watch(folder: Path) -> dict[str, float]:
    """Load the folder in this process; return the increase of peak anonymous memory, MB."""
    import torch

    from sa2va.checkpoints.folder import load_checkpoint

    before, peak, done = rss_mb("RssAnon"), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, rss_mb("RssAnon"))
            time.sleep(POLL_INTERVAL)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    model, _ = load_checkpoint(folder, torch.device("cpu"), torch.bfloat16)
    spent = time.perf_counter() - start
    done.set()
    watcher.join()
    size = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    return {"peak": max(peak, rss_mb("RssAnon")) - before, "size": size, "seconds": spent}


def main() -> int:
    made = parser("peak memory of loading")
    made.add_argument("--model", default="ByteDance/Sa2VA-4B")
    made.add_argument("--scratch", type=Path, help="folder for the checkpoint; float32, 4 bytes per weight")
    made.add_argument("--only", type=Path, help="folder to load in this process, printing JSON")
    options = made.parse_args()
    if options.only:
        print(json.dumps(load_and_watch(options.only)))
        return 0
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        write_folder(options.model, Path(scratch))
        command = [sys.executable, __file__, "--only", scratch]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    table = Table(f"{options.model}, float32 on disk, bfloat16 in memory", ("weights, MB", "peak, MB", "seconds"))
    table.add(f"{found['size']:.0f}", f"{found['peak']:.0f}", found["seconds"])
    table.judge("peak / weights", found["peak"] / found["size"], LIMIT)
    return report("python benchmarks/loading_memory.py", [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
