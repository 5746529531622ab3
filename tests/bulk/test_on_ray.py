"""Test that actors on Ray write the bytes of one process, also if one of them is killed."""

import os
import signal
import socket
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.bulk_files import SlowToy, run, start, write_expressions, write_media
from support.own_process import contents

pytest.importorskip("pyarrow")

from sa2va.bulk.merge import merge
from sa2va.bulk.on_ray import answer_on_ray
from sa2va.inference.on_ray import require_reachable

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_an_actor_that_is_killed_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of four actors dies after the first block; every item is there once."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *filter(None, sys.path)]))
    media, texts = write_media(tmp_path / "media", num_pictures=30), write_expressions(tmp_path / "texts.txt")
    expected = run(media, texts, tmp_path / "one")
    load, killed = partial(SlowToy, 0.3, tmp_path / "processes"), []
    plan, job = start(media, texts, tmp_path / "four", load=load)
    blocks = []
    for done in answer_on_ray(job, plan.todo(), "local", num_workers=4):
        blocks.append(done.block)
        if not killed:
            killed.append(int(min(path.name for path in (tmp_path / "processes").iterdir())))
            os.kill(killed[0], signal.SIGKILL)
    assert sorted(blocks) == list(range(plan.num_blocks)) and plan.num_items == 64
    assert len(list((tmp_path / "processes").iterdir())) > 4  # another one has started in its place
    merge(plan)
    assert contents(tmp_path / "four") == expected


def load_nothing() -> Any:
    raise ValueError("there is no such model")


@pytest.mark.slow
def test_a_fault_of_a_worker_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    ray_cloudpickle = pytest.importorskip("ray.cloudpickle")
    ray_cloudpickle.register_pickle_by_value(sys.modules[__name__])
    plan, job = start(write_media(tmp_path / "media"), write_expressions(tmp_path / "texts.txt"), tmp_path / "out")
    with pytest.raises(ValueError, match="Ray: a worker failed .*there is no such model.*again resumes") as caught:
        list(answer_on_ray(replace(job, load=load_nothing), plan.todo(), "local", num_workers=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_cluster_that_does_not_answer_is_refused_at_once(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        require_reachable(f"{host}:{port}")
    with pytest.raises(ValueError, match=f"--ray {host}:{port}: cannot be reached .*; start it: ray start --head"):
        require_reachable(f"{host}:{port}")


@pytest.mark.parametrize("address", ["local", "auto", "ray://nowhere:10001", "nowhere"])
def test_other_addresses_are_left_to_ray(address: str) -> None:
    require_reachable(address)


def test_ray_is_not_started_for_a_finished_run(tmp_path: Path) -> None:
    media, texts = write_media(tmp_path / "media"), write_expressions(tmp_path / "texts.txt")
    run(media, texts, tmp_path / "out")
    plan, job = start(media, texts, tmp_path / "out")
    assert list(answer_on_ray(job, plan.todo(), "nowhere")) == []


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    plan, job = start(write_media(tmp_path / "media"), write_expressions(tmp_path / "t.txt"), tmp_path / "out")
    with pytest.raises(ValueError, match=r"this needs ray: pip install 'sa2va\[bulk\]'"):
        list(answer_on_ray(job, plan.todo(), "local"))
