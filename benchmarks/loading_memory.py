"""Measure the peak memory of loading a float32 checkpoint of a released size in bfloat16 and in float32.

Flow: sharded checkpoint of zeros -> loaded in a new process per precision -> peak memory relative to the weights:
    anonymous memory, which cannot be reclaimed, and all resident memory, with mapped pages of the files.
Run: python benchmarks/loading_memory.py [--model ByteDance/Sa2VA-1B] [--scratch FOLDER]
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from measure import Table, parser, repeat_command, report, rss_mb

LIMIT = 1.15
DTYPES = ("bfloat16", "float32")
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


def load_and_watch(folder: Path, dtype: str) -> dict[str, float]:
    """Load the folder in this process; return the increases of peak memory, MB."""
    import torch

    from sa2va.checkpoints.folder import load_checkpoint

    start_rss, before, peak, done = rss_mb(), rss_mb("RssAnon"), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, rss_mb("RssAnon"))
            time.sleep(POLL_INTERVAL)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.process_time()
    model, _ = load_checkpoint(folder, torch.device("cpu"), getattr(torch, dtype))
    spent = time.process_time() - start
    done.set()
    watcher.join()
    size = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    return {
        "anonymous": max(peak, rss_mb("RssAnon")) - before,
        "resident": rss_mb("VmHWM") - start_rss,
        "size": size,
        "seconds": spent,
    }


def main() -> int:
    made = parser("peak memory of loading")
    made.add_argument("--model", default="ByteDance/Sa2VA-1B")
    made.add_argument("--scratch", type=Path, help="folder for the checkpoint; float32, 4 bytes per weight")
    made.add_argument("--only", nargs=2, help="folder to load in this process and data type, printing JSON")
    options = made.parse_args()
    if options.only:
        folder, dtype = options.only
        print(json.dumps(load_and_watch(Path(folder), dtype)))
        return 0
    columns = ("in memory", "weights, MB", "peak, MB", "with mapped pages, MB", "CPU seconds")
    table = Table(f"{options.model}, float32 on disk", columns)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        write_folder(options.model, Path(scratch))
        for dtype in DTYPES:
            command = [sys.executable, __file__, "--only", scratch, dtype]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            table.add(dtype, *(f"{found[key]:.0f}" for key in ("size", "anonymous", "resident")), found["seconds"])
            table.judge(f"{dtype}, peak / weights", found["anonymous"] / found["size"], LIMIT)
    command = repeat_command("loading_memory.py", made, options)
    return report(command, [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
