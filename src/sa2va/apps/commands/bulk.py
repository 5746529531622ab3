"""Segment many files: `sa2va bulk SOURCE --expressions FILE -o OUT`.

Flow: files and expressions -> bulk/plan.py -> blocks, answered in this process, in those of a launcher, or by actors on
    Ray -> OUT/parts; when all are there, OUT/annotations.json and failures.jsonl. The same command again resumes.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sa2va
from sa2va.apps.options import (
    JsonOption,
    ModelChoice,
    QuietOption,
    dataclass_options,
    parse_path,
    require_finite,
    takes,
    takes_model,
)
from sa2va.apps.report import remark, say
from sa2va.apps.spread import Spread, spread_option

if TYPE_CHECKING:
    from sa2va.bulk.plan import Plan
    from sa2va.bulk.worker import Done, Job


@dataclass(frozen=True)
class Scale(Spread):
    """Batches and processes of a run, as options."""

    batch: Annotated[int, spread_option("--batch", None, "Items that go through the model together.", min=1)] = 8
    block: Annotated[int, spread_option("--block", None, "Items of a part file: what a crash can lose.", min=1)] = 64

    def answer(self, job: "Job", blocks: Sequence[int]) -> "Iterator[Done]":
        """Answer blocks here or on Ray."""
        if self.ray is None:
            from sa2va.bulk.worker import answer_blocks

            return answer_blocks(job, blocks)
        from sa2va.bulk.on_ray import answer_on_ray

        return answer_on_ray(job, blocks, self.ray, num_workers=self.workers, num_gpus=self.gpus_per_worker)


def takes_scale(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option per field of Scale to a command, which receives it as `scale`."""
    return takes(command, "scale", dataclass_options(Scale), lambda values: Scale(**values))


@takes_model
@takes_scale
def bulk(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder, glob, list file (.txt), or URI such as s3://bucket/photos.")
    ],
    expressions: Annotated[
        Path,
        typer.Option("--expressions", "-e", metavar="FILE", parser=parse_path, help=".txt, .json, .csv or .jsonl."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", parser=parse_path, help="Folder for the results.")
    ],
    coco: Annotated[bool, typer.Option("--coco/--no-coco", help="Join the parts to COCO JSON at the end.")] = True,
    max_objects: Annotated[int, typer.Option(min=1, help="Maximum number of objects of an answer.")] = 64,
    threshold: Annotated[float, typer.Option(callback=require_finite, help="Mask threshold, a logit.")] = 0.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    scale: Scale,
    choice: ModelChoice,
) -> None:
    """Segment what expressions refer to in many pictures and clips, each item exactly once.

    Writes FOLDER/parts/*.parquet and, when all are there, annotations.json (COCO) and failures.jsonl, which lists the
    files that cannot be read. The same command again resumes; the last shard to finish joins the parts.
    """
    shard = scale.find_shard()
    from sa2va.bulk.expressions import read_expressions
    from sa2va.bulk.merge import merge
    from sa2va.bulk.plan import start_plan
    from sa2va.bulk.sources import find_source
    from sa2va.bulk.worker import Job
    from sa2va.inference.requests import Options

    found, texts = find_source(source), read_expressions(expressions)
    options = Options(max_objects=max_objects, mask_threshold=threshold)
    settings = {
        "source": found.name,
        "expressions": sha256(expressions.read_bytes()).hexdigest(),
        "model": choice.identity(),
        "sa2va": sa2va.__version__,
        "batch": scale.batch,
        "max_objects": max_objects,
        "threshold": threshold,
    }
    plan = start_plan(output, settings, lambda: texts.pair(found.list_names()), scale.block)
    job = Job(
        folder=output.resolve(),
        store=found.store,
        load=(choice if scale.ray else choice.of_process()).load,
        batch=scale.batch,
        options=options,
    )
    start, todo = time.perf_counter(), [block for block in plan.todo() if shard.has(block)]
    total = sum(plan.size(block) for block in range(plan.num_blocks) if shard.has(block))
    num_answered = watch(scale.answer(job, todo), total, sum(map(plan.size, todo)), quiet or shard.index > 0)
    seconds = time.perf_counter() - start
    if coco and not plan.todo():
        merge(plan)
    report(plan, num_answered, seconds, as_json=as_json, quiet=quiet)


def watch(done: "Iterable[Done]", total: int, left: int, quiet: bool) -> int:
    """Show the progress over `total` items, of which `left` are to be answered; return the number answered."""
    from tqdm import tqdm

    number = failed = 0
    with tqdm(total=total, initial=total - left, desc="bulk", unit="item", disable=quiet, smoothing=0.1) as bar:
        for one in done:
            number, failed = number + one.num_items, failed + one.num_failed
            bar.update(one.num_items)
            if failed:
                bar.set_postfix(failed=failed)
    return number


def report(plan: "Plan", num_answered: int, seconds: float, *, as_json: bool, quiet: bool) -> None:
    """Print the state of a run."""
    from sa2va.bulk.merge import FAILURES, count_failures, is_merged

    blocks_left = plan.todo()
    found = {
        "folder": str(plan.folder),
        "items": plan.num_items,
        "done": plan.num_items - sum(plan.size(block) for block in blocks_left),
        "failed": count_failures(plan),
        "answered_now": num_answered,
        "seconds": round(seconds, 2),
        "items_per_second": round(num_answered / seconds, 3) if num_answered else None,
        "joined": is_merged(plan),
    }
    if as_json:
        print(json.dumps(found))
        return
    say(f"{found['done']} of {found['items']} items in {plan.folder}, {found['failed']} of them failed")
    if num_answered:
        remark(f"answered {num_answered} items in {seconds:.1f} s, {num_answered / seconds:.2f} items/s", quiet)
    if found["failed"]:
        remark(f"failed items and the reasons: {plan.folder / FAILURES}", quiet or not found["joined"])
    if blocks_left:
        remark(f"{len(blocks_left)} parts are missing; other shards, or the same command again, write them", quiet)
