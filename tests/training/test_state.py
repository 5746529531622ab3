"""Check that a state is restored exactly, replaced only by a complete one, and refused if incomplete."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from sa2va.training.state import State, latest_state, module_tensors, read_state, save_state


def build_state(step: int = 4) -> State:
    tied = torch.arange(6.0).reshape(2, 3)
    weights = {"a": tied, "b": tied, "c": torch.ones(2, 2).bfloat16(), "turned": torch.arange(4.0).reshape(2, 2).T}
    return State(step, {"lr": 0.1, "meter": {"x": [1, 2]}}, {"weights": weights, "empty": {}})


def test_round_trip_with_tied_and_transposed_tensors(tmp_path):
    state = build_state()
    path = save_state(tmp_path / "new" / "stage", state)
    back = read_state(path)
    assert (back.step, back.record) == (4, state.record)
    assert set(back.parts) == {"weights"}
    for name, tensor in state.parts["weights"].items():
        found = back.parts["weights"][name].read()
        assert torch.equal(found, tensor) and found.dtype == tensor.dtype
    assert not list(path.parent.glob("**/*.pt")) and not list(path.parent.glob(".draft*"))


def test_the_newest_replaces_the_one_before(tmp_path):
    save_state(tmp_path, build_state(9))
    save_state(tmp_path, build_state(10))
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000010"]
    save_state(tmp_path, build_state(12), name="final")
    assert latest_state(tmp_path) == tmp_path / "final"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_save_that_fails_leaves_the_state_before_it(tmp_path, monkeypatch):
    save_state(tmp_path, build_state(1))

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ValueError, match="No space left on device"):
        save_state(tmp_path, build_state(2))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000001"]
    assert read_state(tmp_path / "state-00000001").step == 1


def test_a_draft_left_by_a_kill_is_cleared(tmp_path):
    """A process is killed while writing the weights; the next save removes its temporary files."""
    code = (
        "import os, signal, sys, sa2va.training.state as state, torch\n"
        "state.write_text = lambda path, text: os.kill(os.getpid(), signal.SIGKILL)\n"
        "state.save_state(state.Path(sys.argv[1]), state.State(1, {}, {'weights': {'a': torch.ones(3)}}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    assert latest_state(tmp_path) is None
    save_state(tmp_path, build_state(1))
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000001"]


def cut_weights(path):
    file = path / "shard-00000" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def garble_weights(path):
    file = path / "shard-00000" / "model.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)


def change_format(path):
    file = path / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": "other"}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut_weights, "model.safetensors has .* truncated"),
        (lambda p: (p / "shard-00000" / "model.safetensors").unlink(), "model.safetensors has 0 bytes"),
        (garble_weights, "is damaged"),
        (lambda p: (p / "state.json").unlink(), "state.json is missing"),
        (lambda p: (p / "state.json").write_text('{"format": '), "state.json is missing or damaged"),
        (lambda p: (p / "state.json").write_text("[1]"), "not a training state"),
        (lambda p: (p / "state.json").write_text('{"format": "sa2va-training-state-3"}'), "not a training state"),
        (change_format, "not a training state"),
    ],
)
def test_a_damaged_state_is_refused_in_one_line(tmp_path, damage, told):
    path = save_state(tmp_path, build_state())
    damage(path)
    with pytest.raises(ValueError, match=told) as caught:
        read_state(path)
    assert str(path) in str(caught.value) and "delete" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"weight": torch.zeros(2, 3)}, "only the model has weights/bias"),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "odd": torch.zeros(1)},
            "only the state has weights/odd",
        ),
        (
            {"weight": torch.zeros(3, 3), "bias": torch.zeros(2)},
            r"weights/weight is \(3, 3\) saved, \(2, 3\) in the model",
        ),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, weights, told):
    with pytest.raises(ValueError, match=told):
        read_state(save_state(tmp_path, State(0, {}, {"weights": weights}))).fill(
            "weights", module_tensors(nn.Linear(3, 2))
        )


def test_weights_fill_a_module(tmp_path):
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    path = save_state(tmp_path, State(0, {}, {"weights": module_tensors(one)}))
    read_state(path).fill("weights", module_tensors(two))
    assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)
