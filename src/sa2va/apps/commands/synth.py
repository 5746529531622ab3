"""Write expressions for the objects of clips: `sa2va synth VIDEOS -o OUT --captioner MODEL|URL`.

Flow: clips with masks -> synth/engine.py with a captioner and a checker -> OUT/journal.jsonl -> OUT/video_datas in the
    layout of Ref-SAV, report.json, contact_sheet.png. The same command again resumes.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
)
from sa2va.apps.report import remark, say

if TYPE_CHECKING:
    from sa2va.endpoint import Endpoint
    from sa2va.evaluation.store import Shard
    from sa2va.inference.predictor import Predictor
    from sa2va.inference.requests import Options, Request
    from sa2va.inference.results import BatchResult
    from sa2va.synth.captioner import Captioner, Checker
    from sa2va.synth.engine import Engine, Job

KEY = "SA2VA_{}_KEY"  # environment variable: SA2VA_CAPTIONER_KEY, SA2VA_CHECKER_KEY
NO_CHECK, PLAIN = "none", "plain"


@dataclass
class LocalModel:
    """A model on this machine, loaded when it is first asked.

    Attributes:
        choice: which.
    """

    choice: ModelChoice

    @cached_property
    def predictor(self) -> "Predictor":
        return self.choice.load()

    def answer_batch(self, requests: "Sequence[Request]", options: "Options | None" = None) -> "list[BatchResult]":
        """See `Predictor.answer_batch`."""
        return self.predictor.answer_batch(requests, options)

    @cached_property
    def name(self) -> str:
        """Name of the model with what decides its answers."""
        return json.dumps({"model": self.choice.model, **self.choice.identity()}, sort_keys=True)


def takes_loading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of ModelChoice without the model's name to a command, which receives them as `loading`."""
    options = {name: one for name, one in dataclass_options(ModelChoice).items() if name != "model"}
    return takes(command, "loading", options, lambda values: ModelChoice(**values))


@takes_loading
def synth(
    videos: Annotated[
        Path, typer.Argument(metavar="VIDEOS", parser=parse_path, help="Folder of clips with masks: SA-V or MeViS.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", parser=parse_path, help="Folder for the results.")
    ],
    captioner: Annotated[
        str, typer.Option("--captioner", metavar="MODEL|URL", help="Model name or folder, or OpenAI-compatible server.")
    ] = "tiny",
    captioner_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model of the captioner's server.")
    ] = None,
    checker: Annotated[
        str | None,
        typer.Option("--checker", metavar="MODEL|URL|none", help="What checks expressions; by default the captioner."),
    ] = None,
    checker_model: Annotated[str | None, typer.Option(metavar="NAME", help="Model of the checker's server.")] = None,
    wording: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Questions to a local model: plain, or an extension's."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, callback=require_finite, help="Least IoU and presence of a found mask.")
    ] = 0.5,
    limit: Annotated[int | None, typer.Option(min=1, help="Number of clips; the first ones by name.")] = None,
    block: Annotated[int, typer.Option(min=1, help="Clips whose questions are asked together.")] = 8,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="i/n", help="Every n-th block from the i-th on.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    loading: ModelChoice,
) -> None:
    """Write expressions for the objects of clips, in the layout of Ref-SAV.

    Each object is described at three levels: itself, its place in the scene,
    its motion. A checker looks at each expression again; what it accepts is
    merged to one long caption. The same command again resumes.

    Keys of servers: SA2VA_CAPTIONER_KEY; of another checker SA2VA_CHECKER_KEY.
    """
    from sa2va.evaluation.store import Shard
    from sa2va.synth.engine import Engine, Job
    from sa2va.synth.layout import start_run
    from sa2va.synth.sources import find_clips

    require_apart(output, videos)
    part, clips = Shard.parse(shard), find_clips(videos)[:limit]
    if checker is None:
        checker, checker_model = captioner, checker_model or captioner_model
    local = {name: LocalModel(replace(loading, model=name)) for name in {captioner, checker}}
    writes = build_captioner(captioner, captioner_model, local[captioner], wording)
    role = "captioner" if checker == captioner else "checker"
    checks = build_checkers(checker, checker_model, local[checker], threshold, role)
    engine = Engine(Job(folder=output, clips=clips, captioner=writes, checkers=checks, block=block))
    start_run(output, describe_run(videos, engine.job, threshold))
    start, done = time.perf_counter(), run_blocks(engine, part, quiet)
    report(engine, done, time.perf_counter() - start, as_json=as_json, quiet=quiet)


def require_apart(output: Path, videos: Path) -> None:
    """Refuse results among the clips, since they would be found as clips by the next call."""
    if output.resolve().is_relative_to(videos.resolve()):
        raise ValueError(f"{output}: lies in {videos}, which is searched for clips at any depth; choose another folder")


def describe_run(videos: Path, job: "Job", threshold: float) -> dict[str, Any]:
    """Return what decides the results of a run, as JSON values."""
    return {
        "videos": str(videos.resolve()),
        "clips": [clip.name for clip in job.clips],
        "captioner": job.captioner.name,
        "checkers": {checker.step: checker.name for checker in job.checkers},
        "threshold": threshold,
        "block": job.block,
        "sa2va": sa2va.__version__,
    }


def build_captioner(name: str, model: str | None, local: LocalModel, wording: str | None) -> "Captioner":
    """Return the captioner of --captioner; an extension adds those of models with a language of their own.

    Raises:
        ValueError: an unknown wording, a server without the name of its model, or a key that no header can hold.
    """
    from sa2va.endpoint import is_url
    from sa2va.extensions import collect, find_part
    from sa2va.synth.local import ModelCaptioner
    from sa2va.synth.remote import EndpointCaptioner

    if is_url(name):
        return EndpointCaptioner(build_endpoint(name, model, "captioner"))
    wording = wording or (name if name in collect("CAPTIONERS") else PLAIN)
    return find_part("captioner", wording, {PLAIN: ModelCaptioner})(local, local.name)


def build_checkers(name: str, model: str | None, local: LocalModel, threshold: float, role: str) -> "list[Checker]":
    """Return the checkers of --checker.

    Raises:
        ValueError: as `build_captioner`.
    """
    from sa2va.endpoint import is_url
    from sa2va.synth.local import ErasureChecker, GroundingChecker
    from sa2va.synth.remote import EndpointChecker

    if name == NO_CHECK:
        return []
    if is_url(name):
        return [EndpointChecker(build_endpoint(name, model, role))]
    return [GroundingChecker(local, local.name, threshold), ErasureChecker(local, local.name, threshold)]


def build_endpoint(url: str, model: str | None, noun: str) -> "Endpoint":
    """Return a server with the key of its environment variable; a key is never sent to another address."""
    from sa2va.endpoint import Endpoint

    return Endpoint(url, model, noun=noun, key=os.environ.get(KEY.format(noun.upper())) or None)


def run_blocks(engine: "Engine", shard: "Shard", quiet: bool) -> int:
    """Run the blocks of a shard that are not done; return the number of clips that were."""
    from tqdm import tqdm

    blocks = [block for block in range(engine.job.num_blocks) if shard.has(block)]
    sizes = {block: len(engine.job.clips_of(block)) for block in blocks}
    todo = [block for block in blocks if not engine.is_done(block)]
    total, left = sum(sizes.values()), sum(sizes[block] for block in todo)
    with tqdm(total=total, initial=total - left, desc="synth", unit="clip", disable=quiet) as bar:
        for block in todo:
            engine.run(block)
            bar.update(sizes[block])
    return left


def report(engine: "Engine", num_done: int, seconds: float, *, as_json: bool, quiet: bool) -> None:
    """Write the results if all clips are done, and print the state of the run."""
    from sa2va.synth.layout import ROOT
    from sa2va.synth.report import REPORT, SHEET, finish

    found, folder = finish(engine), engine.job.folder
    if as_json:
        print(json.dumps({"folder": str(folder), "finished": found is not None, "report": found}))
        return
    if num_done:
        remark(f"captioned {num_done} clips in {seconds:.1f} s, {seconds / num_done:.2f} s per clip", quiet)
    if found is None:
        say(f"{folder} is not finished; other shards, or the same command again, write the rest")
        return
    say(f"{found['objects with a caption']} of {found['objects']} objects have a caption in {folder / ROOT}")
    for level, counts in found["levels"].items():
        remark(f"{level}: {counts['accepted']} of {counts['written']} expressions accepted", quiet)
    remark(f"counts and reasons: {folder / REPORT}; to look at: {folder / SHEET}", quiet)
