"""Check that overrides are typed and validated, and configs out of range refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.training.config import RunConfig, apply_overrides
from sa2va.training.stage import StageConfig


@dataclass(frozen=True, kw_only=True)
class Net:
    width: int = 8
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class WiderRun(RunConfig):
    net: Net = Net()
    sizes: tuple[int, ...] = (1, 2)
    limit: float | None = None
    extra: dict[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class WiderStage(StageConfig):
    net: Net = Net()


def build_run() -> WiderRun:
    stages = tuple(WiderStage(name=name, steps=100, batch_size=4, lr=1e-3) for name in ("vision", "refseg"))
    return WiderRun(name="toy", output="out", stages=stages)


def pick(run: RunConfig, name: str) -> Any:
    return next(stage for stage in run.stages if stage.name == name)


@pytest.mark.parametrize(
    ("word", "read", "expected"),
    [
        ("seed=3", lambda c: c.seed, 3),
        ("output=/a=b", lambda c: c.output, "/a=b"),
        ("stages.refseg.lr=1e-4", lambda c: pick(c, "refseg").lr, 1e-4),
        ("lr.refseg=2", lambda c: pick(c, "refseg").lr, 2.0),
        ("net.width.refseg=3", lambda c: pick(c, "refseg").net.width, 3),
        ("stages.refseg.net.kind=b", lambda c: pick(c, "refseg").net.kind, "b"),
        ("steps.vision=1e3", lambda c: pick(c, "vision").steps, 1000),
        ("steps.vision=1_000", lambda c: pick(c, "vision").steps, 1000),
        ("autocast.vision=no", lambda c: pick(c, "vision").autocast, False),
        ("stages.vision.autocast=TRUE", lambda c: pick(c, "vision").autocast, True),
        ("betas.refseg=0.8,0.9", lambda c: pick(c, "refseg").betas, (0.8, 0.9)),
        ("net.width=16", lambda c: c.net.width, 16),
        ("net.kind=b", lambda c: c.net.kind, "b"),
        ("sizes=(4, 5, 6)", lambda c: c.sizes, (4, 5, 6)),
        ("limit=0.5", lambda c: c.limit, 0.5),
        ("limit=none", lambda c: c.limit, None),
        (" threads = 2 ", lambda c: c.threads, 2),
    ],
)
def test_override_sets_the_typed_value(word, read, expected):
    before = build_run()
    after = apply_overrides(before, [word])
    assert read(after) == expected
    assert type(read(after)) is type(expected)
    assert before == build_run()


def test_override_leaves_the_other_stages_alone():
    after = apply_overrides(build_run(), ["steps.refseg=7", "lr.refseg=1", "seed=1"])
    assert pick(after, "vision") == pick(build_run(), "vision")
    assert (pick(after, "refseg").steps, pick(after, "refseg").lr, after.seed) == (7, 1.0, 1)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("sed=3", "nearest: seed"),
        ("stages.refsg.lr=1", "stages.refseg.lr"),
        ("step.refseg=1", "steps.refseg"),
        ("stages.refseg.name=x", "no setting"),
        ("name=x", "no setting"),
        ("stages.refseg.seed=3", "a stage has no seed of its own; set that of the run: seed=3"),
        ("seed.refseg=3", "a stage has no seed of its own; set that of the run: seed=3"),
        ("stages=1", "no setting"),
        ("net=1", "no setting"),
        ("zzz=1", "nearest: "),
        ("seed", "name=value"),
        ("=3", "name=value"),
        ("seed=1.5", "whole number"),
        ("seed=inf", "whole number"),
        ("seed=x", "whole number"),
        ("seed=", "whole number"),
        ("seed=-1", ">= 0"),
        ("lr.refseg=nan", "a number"),
        ("lr.refseg=-1", "expected 0 to"),
        ("lr.refseg=fast", "a number"),
        ("batch_size.refseg=0", "batch_size is 0"),
        ("ema.refseg=1", "ema is 1"),
        ("betas.refseg=0.9", "2 values"),
        ("betas.refseg=0.9,1.0", "[0, 1)"),
        ("autocast.refseg=maybe", "true or false"),
        ("net.kind=c", "one of a, b"),
        ("output=", "a text"),
        ("extra=1", "recipe"),
    ],
)
def test_bad_override_is_one_line(word, told):
    with pytest.raises(ValueError) as caught:
        apply_overrides(build_run(), [word])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_stages_of_one_name_are_refused():
    stage = build_run().stages[0]
    with pytest.raises(ValueError, match="share a name"):
        RunConfig(name="x", output="y", stages=(stage, stage))


def test_path_settings_become_paths():
    @dataclass(frozen=True)
    class Place:
        folder: Path = Path("a")

    # a local class: its hints resolve because Path is global here
    assert apply_overrides(Place(), ["folder=b/c"]).folder == Path("b/c")


@given(value=st.floats(min_value=0, max_value=1e6))
def test_float_override_survives_the_trip_through_text(value):
    assert pick(apply_overrides(build_run(), [f"lr.refseg={value!r}"]), "refseg").lr == value
