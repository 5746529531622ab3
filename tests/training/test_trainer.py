"""Check that a stage learns, resumes exactly after a kill, skips finished work and refuses other states."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.own_process import plain_signals
from support.toy_stage import ToyStage, run_toy, toy_config

from sa2va.training.state import latest_state, read_state
from sa2va.training.trainer import run_stage

SLOW_RUN = Path(__file__).parents[1] / "support" / "toy_stage.py"
EXACT = ("step", "losses", "lr", "grad_norm", "skipped", "counts")  # every figure but the clock's


@pytest.fixture(autouse=True)
def one_thread():
    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(kept)


def read_log(folder) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in EXACT} for line in lines if "losses" in line]


def first_weight(stage: ToyStage) -> torch.Tensor:
    return next(iter(stage.module.parameters()))


def start_slow_run(folder, *, num_workers: int, until: int) -> subprocess.Popen:
    """Start a run in a subprocess and return once it has logged step `until`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(SLOW_RUN), str(folder), "wait_s=0.1", f"num_workers={num_workers}"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=plain_signals)
    deadline = time.monotonic() + 240  # a busy machine starts slowly
    while not (folder / "log.jsonl").exists() or len((folder / "log.jsonl").read_text().splitlines()) < until:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    return process


def test_it_learns(tmp_path):
    stage = ToyStage(toy_config(steps=300, log_every=50, save_every=0, ema=0.0))
    run_toy(stage, tmp_path)
    log = read_log(tmp_path)
    assert [line["step"] for line in log] == [50, 100, 150, 200, 250, 300]
    assert log[-1]["losses"]["total"] < 0.15 * log[0]["losses"]["total"]
    assert log[-1]["losses"]["fit"] == pytest.approx(log[-1]["losses"]["total"])
    assert log[-1]["counts"] == {"rows": 300 * 16, "marked": 0}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the worker's process id in /proc")
def test_a_killed_run_resumes_to_the_same_losses(tmp_path):
    whole = ToyStage(toy_config())
    run_toy(whole, tmp_path / "whole")
    process = start_slow_run(tmp_path / "killed", num_workers=1, until=7)
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.kill()
    process.communicate()
    saved = latest_state(tmp_path / "killed" / "toy")
    assert saved is not None and saved.name == "state-00000005"
    resumed = ToyStage(toy_config())
    run_toy(resumed, tmp_path / "killed")
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")
    for one, two in zip(whole.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(one, two)
    assert len(children) >= 1
    deadline = time.monotonic() + 20  # a worker of torch's looks for its parent every five seconds
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_exits_with_130(tmp_path, number):
    process = start_slow_run(tmp_path, num_workers=0, until=2)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    saved = latest_state(tmp_path / "toy")
    assert saved is not None
    step = read_state(saved).step
    assert f"interrupted, saved at step {step}" in said and "Traceback" not in said
    assert step == read_log(tmp_path)[-1]["step"] < 12
    run_toy(ToyStage(toy_config()), tmp_path)
    assert [line["step"] for line in read_log(tmp_path)] == list(range(1, 13))


def test_averaging_windows_of_the_log_survive_a_resume(tmp_path):
    config = toy_config(log_every=4)
    run_toy(ToyStage(config), tmp_path / "whole")
    stopped = ToyStage(replace(config, save_every=3), fail_at=7)
    with pytest.raises(ValueError, match="no points for 7"):
        run_toy(stopped, tmp_path / "stopped")
    run_toy(ToyStage(config), tmp_path / "stopped")
    assert read_log(tmp_path / "stopped") == read_log(tmp_path / "whole")


def test_a_run_goes_on_with_smaller_batches_of_the_same_steps(tmp_path):
    run_toy(ToyStage(toy_config(), dropout=0.0), tmp_path / "whole")
    with pytest.raises(ValueError, match="no points for 7"):
        run_toy(ToyStage(toy_config(), dropout=0.0, fail_at=7), tmp_path / "stopped")
    run_toy(ToyStage(toy_config(accumulate=4), dropout=0.0), tmp_path / "stopped")
    whole, stopped = read_log(tmp_path / "whole"), read_log(tmp_path / "stopped")
    for one, two in zip(whole, stopped, strict=True):
        assert one["losses"] == pytest.approx(two["losses"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-4)


def test_a_done_stage_is_skipped_and_gives_its_averaged_weights(tmp_path):
    trained = ToyStage(toy_config())
    run_toy(trained, tmp_path)
    assert latest_state(tmp_path / "toy") == tmp_path / "toy" / "final"
    again = ToyStage(toy_config(num_workers=3), fail_at=0)
    run_toy(again, tmp_path)
    assert len(read_log(tmp_path)) == 12
    for one, two in zip(trained.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, two)
    plain = ToyStage(toy_config(ema=0.0))
    run_toy(plain, tmp_path / "plain")
    assert not torch.equal(first_weight(plain), first_weight(trained))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_final_weights_keep_a_share_of_the_first_ones_in_a_resumed_run_too(tmp_path, ema):
    began, trained = ToyStage(toy_config(ema=ema)), ToyStage(toy_config(ema=ema))
    run_toy(trained, tmp_path / "trained")
    config = toy_config(ema=ema, start_share=0.25)
    with pytest.raises(ValueError, match="no points for 7"):
        run_toy(ToyStage(config, fail_at=7), tmp_path / "blended")
    blended = ToyStage(config)
    run_toy(blended, tmp_path / "blended")
    for first, last, found in zip(*(one.module.parameters() for one in (began, trained, blended)), strict=True):
        torch.testing.assert_close(found, 0.25 * first + 0.75 * last)
    assert not torch.equal(first_weight(began), first_weight(trained))
    assert read_log(tmp_path / "blended") == read_log(tmp_path / "trained")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lr": 0.5}, "lr of stage toy was 0.01 and is now 0.5"),
        ({"batch_size": 8}, "batch_size of stage toy was 16"),
        ({"betas": (0.5, 0.9)}, "betas"),
        ({"steps": 9}, "steps of stage toy was 12 and is now 9"),
    ],
)
def test_a_state_of_another_config_is_refused(tmp_path, changes, told):
    with pytest.raises(ValueError, match="no points"):
        run_toy(ToyStage(toy_config(), fail_at=6), tmp_path)
    with pytest.raises(ValueError, match=told) as caught:
        run_toy(ToyStage(toy_config(**changes)), tmp_path)
    assert "\n" not in str(caught.value) and "delete" in str(caught.value)


def test_more_steps_and_other_logging_may_go_on(tmp_path):
    with pytest.raises(ValueError, match="no points"):
        run_toy(ToyStage(toy_config(), fail_at=6), tmp_path)
    run_toy(ToyStage(toy_config(steps=15, log_every=5, save_every=2)), tmp_path)
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3, 4, 5, 10, 15]


def test_a_truncated_state_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no points"):
        run_toy(ToyStage(toy_config(), fail_at=6), tmp_path)
    saved = latest_state(tmp_path / "toy")
    assert saved is not None
    file = saved / "shard-00000" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model.safetensors has 100 bytes, expected \d+"):
        run_toy(ToyStage(toy_config()), tmp_path)


def test_ten_bad_steps_in_a_row_end_the_run(tmp_path):
    stage = ToyStage(toy_config(steps=30), poison_from=4)
    with pytest.raises(ValueError, match="10 non-finite steps in a row before step 14 .*total inf.*lower lr.toy"):
        run_toy(stage, tmp_path)
    assert all(torch.isfinite(p).all() for p in stage.module.parameters())
    assert [line["skipped"] for line in read_log(tmp_path)] == [0] * 4 + list(range(1, 10))


def test_a_few_bad_steps_are_left_out(tmp_path):
    stage = ToyStage(toy_config(), poison_from=9)
    run_toy(stage, tmp_path)
    assert read_log(tmp_path)[-1]["skipped"] == 3
    assert "NaN" not in (tmp_path / "log.jsonl").read_text()


def test_validation_runs_in_eval_mode_on_its_steps(tmp_path):
    stage = ToyStage(toy_config(validate_every=5))
    run_toy(stage, tmp_path)
    assert stage.validated == [5, 10]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["validation"] for line in lines if "validation" in line] == [{"error": 1.0}] * 2
    plain = ToyStage(toy_config())
    run_toy(plain, tmp_path / "plain")
    assert torch.equal(first_weight(plain), first_weight(stage))


def test_a_run_into_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(ValueError, match="cannot write the log"):
        run_toy(ToyStage(toy_config()), tmp_path / "taken")
    assert run_stage.__doc__
