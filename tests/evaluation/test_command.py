"""Check that the command lines of a report ask the same benchmarks of the same model again."""

import shlex
from dataclasses import replace
from pathlib import Path

from support.fake_answers import STAMP

from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.command import list_commands
from sa2va.evaluation.store import Asked

PUBLIC = Selection(split="val", root=Path("my data"), limit=5, seed=2, prompts="released", keyframes="first")


def test_benchmarks_with_the_same_items_share_a_command() -> None:
    asked = [
        Asked(run=STAMP, benchmark="refcoco/val", selection=PUBLIC),
        Asked(run=STAMP, benchmark="refcoco/testA", selection=replace(PUBLIC, split="testA")),
        Asked(run=STAMP, benchmark="world/groups", selection=Selection(split="report", limit=7)),
    ]
    assert list_commands(asked) == (
        "sa2va eval fake --device cpu --dtype float32 --benchmarks refcoco/val,refcoco/testA --data 'my data' "
        "--limit 5 --seed 2 --prompts released --keyframes first",
        "sa2va eval fake --device cpu --dtype float32 --benchmarks world/groups --split report --limit 7",
    )


def test_the_model_is_named_with_everything_that_it_was_loaded_with() -> None:
    run = replace(STAMP, model="org/name@main", adapter="my adapter", sam="org/sam", quantize="int8", compile=False)
    (line,) = list_commands([Asked(run=run, benchmark="x", selection=Selection(split="dev"))])
    words = shlex.split(line)
    assert words[2:5] == ["org/name", "--revision", "main"]
    named = dict(zip(words[3::2], words[4::2], strict=True))
    assert named["--adapter"] == "my adapter" and named["--compile"] == "off" and named["--quantize"] == "int8"
