"""Time `sa2va bulk` with one and several workers, and with several items in a batch.

Flow: drawn scenes -> PNG files -> the command, on Ray or in shards -> times of its part files -> table.
    The rate is that of the parts between the first and the last one of each worker, so that neither the start of
    processes nor their unequal end counts. A worker has one thread.
Run: python benchmarks/bulk_throughput.py [--through shards] [--workers 1 2] [--batch 1 4 8] [--parts 8]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

from measure import Table, parser, repeat_command, report

SCALING = 1.8  # from 1 to 2 workers
BLOCK = 8  # items of a part
DATASET = "world/refseg"


def draw(folder: Path, number: int) -> Path:
    """Write drawn scenes with the expression of an object each; return the file of expressions."""
    from sa2va.data.catalog import build_dataset
    from sa2va.media.pictures import save_image
    from sa2va.tokens import SEGMENT_REQUEST, strip_expression

    begin, texts, dataset = SEGMENT_REQUEST.partition("{")[0], {}, build_dataset(DATASET, num_turns=1)
    for sample in map(dataset.__getitem__, count()):
        turn = sample.turns[0]
        if turn.spans and turn.question.startswith(begin):
            name = f"{len(texts):06d}.png"
            save_image(folder / name, sample.frames[0])
            texts[name] = strip_expression(turn.question.removeprefix(begin))
        if len(texts) == number:
            break
    path = folder / "expressions.json"
    path.write_text(json.dumps(texts))
    return path


def run(media: Path, texts: Path, options: argparse.Namespace, workers: int, batch: int) -> float:
    """Run the command to its end; return the pictures per second of all workers together."""
    num_parts = options.parts * workers
    names = sorted(path.name for path in media.glob("*.png"))[: num_parts * BLOCK]
    with tempfile.TemporaryDirectory() as scratch:
        (media / "files.txt").write_text("\n".join(names))
        some = Path(scratch) / "expressions.json"
        everything = json.loads(texts.read_text())
        some.write_text(json.dumps({name: everything[name] for name in names}))
        out = Path(scratch) / "out"
        command = [
            sys.executable, "-m", "sa2va.apps.cli", "bulk", str(media / "files.txt"), "-e", str(some), "-o", str(out),
            "--block", str(BLOCK), "--batch", str(batch), "--model", options.model, "--quiet",
        ]  # fmt: skip
        if options.through == "ray":
            each = [["--ray", "local", "--workers", str(workers)]]
        else:
            each = [["--shard", f"{place + 1}/{workers}"] for place in range(workers)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        started = [subprocess.Popen([*command, *more], env=environment, stdout=subprocess.DEVNULL) for more in each]
        if any([process.wait() for process in started]):
            raise SystemExit("a worker failed")
        times = sorted(path.stat().st_mtime for path in (out / "parts").iterdir())
        assert len(times) == num_parts
    first, last = workers - 1, num_parts - workers  # every worker has finished a part, and still has one to do
    return BLOCK * (last - first) / (times[last] - times[first])


def main() -> int:
    made = parser("pictures per second of sa2va bulk")
    made.add_argument("--through", choices=("ray", "shards"), default="ray")
    made.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    made.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8])
    made.add_argument("--parts", type=int, default=8, help="parts of a worker, of 8 pictures each")
    made.add_argument("--model", default="tiny")
    options = made.parse_args()
    options.workers, options.batch = [int(one) for one in options.workers], [int(one) for one in options.batch]
    rates = {}
    with tempfile.TemporaryDirectory() as scratch:
        media = Path(scratch)
        texts = draw(media, options.parts * max(options.workers) * BLOCK)
        for batch in options.batch:
            for workers in options.workers:
                rates[workers, batch] = run(media, texts, options, workers, batch)
    title = f"sa2va bulk, {options.model} model on a CPU, one thread a worker, drawn scenes, {options.through}"
    table = Table(title, ("workers", "batch", "pictures/s", "ratio"))
    base = rates[options.workers[0], options.batch[0]]
    for (workers, batch), rate in sorted(rates.items()):
        table.add(workers, batch, rate, rate / base)
    if {1, 2} <= set(options.workers):
        batch = options.batch[-1]
        scaling = rates[2, batch] / rates[1, batch]
        table.judge(f"pictures/s, 2 workers / 1 worker, batch {batch}", scaling, SCALING, at_least=True)
    command = repeat_command("bulk_throughput.py", made, as_text(options))
    return report(command, [table], record=options.record)


def as_text(options: argparse.Namespace) -> argparse.Namespace:
    """Return options whose lists are texts where they differ from the defaults, for `repeat_command`."""
    lists = {"workers": [1, 2], "batch": [1, 4, 8]}
    changed = {name: [str(one) for one in getattr(options, name)] for name, usual in lists.items()
               if getattr(options, name) != usual}  # fmt: skip
    return argparse.Namespace(**(vars(options) | changed))


if __name__ == "__main__":
    sys.exit(main())
