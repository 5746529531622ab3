"""Check the doctor's reports on models, machines and installations, and its exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_hub import FakeHub

from sa2va.apps import cli
from sa2va.apps.commands import doctor as doctor_module
from sa2va.apps.installation import Part
from sa2va.checkpoints import released
from sa2va.checkpoints.device import GIB, Place
from sa2va.checkpoints.find import EMBEDDED
from sa2va.checkpoints.released import RELEASED, Released

LARGE = "ByteDance/Sa2VA-8B"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """Simulate an installation without faults."""
    parts = [Part("torch", "2.13.0"), Part("peft", None, "optional: pip install 'sa2va[adapter]'", "adapter")]
    monkeypatch.setattr(doctor_module, "inspect_installation", lambda: parts)
    return parts


@pytest.fixture(autouse=True)
def abilities(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Simulate a CPU without bfloat16 products."""
    found: dict[str, bool] = {}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: found)
    return found


@pytest.fixture
def few_released(monkeypatch: pytest.MonkeyPatch) -> dict[str, Released]:
    """Shorten the list of released models; building each of them takes seconds."""
    few = {name: RELEASED[name] for name in ("ByteDance/Sa2VA-1B", "ByteDance/Sa2VA-4B")}
    monkeypatch.setattr(released, "RELEASED", few)
    return few


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Simulate a machine with this much free memory, GiB: have(cpu=64, cuda=24)."""

    def set_memory(**gibs: float) -> None:
        places = [Place("cuda:0" if k == "cuda" else k, k, 100 * GIB, int(v * GIB)) for k, v in sorted(gibs.items())]
        found = sorted(places, key=lambda place: place.device == "cpu")
        monkeypatch.setattr("sa2va.checkpoints.device.list_places", lambda: found)

    return set_memory


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = cli.main(["doctor", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_released_model_needs_no_network(
    have: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    have(cpu=64, cuda=12)
    code, report = run_json(capsys, LARGE)
    assert code == 0
    (model,) = report["models"]
    assert model["family"] == "internvl" and model["language"] == "InternLM2.5-7B"
    assert model["terms"] == "Apache-2.0" and model["parameters"] == pytest.approx(8.32e9, rel=0.01)
    fits = {key: choice["fits"] for key, choice in model["choices"].items()}
    assert fits == {"float32": "cuda", "bfloat16": "cuda", "int8": "cuda:0", "int4": "cuda:0"}
    need = model["choices"]["int8"]["gib"]
    assert need["total"] == pytest.approx(sum(value for key, value in need.items() if key != "total"), abs=0.03)
    assert report["machine"]["memory"][0]["device"] == "cuda:0" and report["machine"]["disk_free"] > 0


@pytest.mark.parametrize(
    ("gibs", "code", "expected"),
    [
        ({"cpu": 64}, 0, "--dtype float32\n"),
        ({"cpu": 24}, 0, "--dtype bfloat16\n"),
        ({"cpu": 12}, 0, "--dtype bfloat16 --quantize int8\n"),
        ({"cpu": 8}, 0, "--dtype bfloat16 --quantize int4\n"),
        ({"cpu": 12, "cuda": 4}, 0, "--dtype bfloat16 --quantize int8 --device cpu\n"),
        ({"cpu": 4}, 1, "Nothing fits"),
        ({"cpu": 64, "cuda": 80}, 0, "--dtype bfloat16\n"),
        ({"cpu": 4, "cuda": 12}, 0, "--dtype bfloat16 --quantize int8\n"),
    ],
)
def test_the_advice_fits_the_machine(
    have: Callable[..., None],
    gibs: dict[str, float],
    code: int,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    have(**gibs)
    assert cli.main(["doctor", LARGE]) == code
    told = capsys.readouterr().out
    assert expected in told and "InternLM2.5-7B" in told and "pip install 'sa2va[adapter]'" in told


def test_a_cpu_that_multiplies_bfloat16_gets_it(
    have: Callable[..., None],
    abilities: dict[str, bool],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    have(cpu=64)
    assert cli.main(["doctor", LARGE]) == 0
    assert "--dtype auto on this CPU: float32; this processor has no bfloat16 products" in capsys.readouterr().out
    abilities["avx512_bf16"] = True
    assert cli.main(["doctor", LARGE]) == 0
    told = capsys.readouterr().out
    assert "--dtype auto on this CPU: bfloat16; this processor multiplies bfloat16 natively" in told
    assert told.count("--dtype bfloat16\n") == 1 and "--dtype float32" not in told
    assert cli.main(["doctor", "tiny"]) == 0
    told = capsys.readouterr().out
    assert "--dtype auto on this CPU: float32; bfloat16 is no faster for so small a model" in told
    assert "--dtype float32\n" in told


def test_without_a_model_all_released_ones_are_listed(
    have: Callable[..., None],
    few_released: dict[str, Released],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    have(cpu=20)
    assert cli.main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in few_released)
    assert "Sa2VA-4B*" in told and "* Apache-2.0; Qwen Research: no commercial use" in told
    have(cpu=1)
    assert cli.main(["doctor"]) == 1


def test_a_folder_is_read_from_its_config_alone(
    have: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    have(cpu=4)
    (tmp_path / "config.json").write_bytes((EMBEDDED["tiny"] / "config.json").read_bytes())
    for name in ("tiny", str(tmp_path)):
        code, report = run_json(capsys, name)
        assert code == 0 and report["models"][0]["parameters"] < 1e8
        assert report["models"][0]["terms"] is None


def test_another_model_of_the_hub_costs_its_config(
    have: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    have(cpu=4)
    files = {path.name: path.read_bytes() for path in EMBEDDED["tiny"].iterdir() if path.suffix == ".json"}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with FakeHub({"lab/small": {"main": files | {"model.safetensors": b"large"}}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        code, report = run_json(capsys, "lab/small")
    assert code == 0 and report["models"][0]["choices"]["float32"]["fits"] == "cpu"
    assert "model.safetensors" not in {name for name, _ in hub.fetched}


@pytest.mark.parametrize(
    ("words", "named"),
    [(["nope"], "no model 'nope'"), (["lab/nothing", "--offline"], "lab/nothing is not on this machine")],
)
def test_unknown_names(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert cli.main(["doctor", *words]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and named in error


@pytest.mark.parametrize("name", ["torch", "av"])
def test_a_broken_library_is_a_failed_check(
    name: str,
    installed: list[Part],
    have: Callable[..., None],
    few_released: object,
    capsys: pytest.CaptureFixture[str],
) -> None:
    have(cpu=64)
    installed[:] = [Part(name, "1.0", "cannot be imported (ImportError: libx); pip install it")]
    assert cli.main(["doctor"]) == 1
    assert f"{name} cannot be imported (ImportError: libx); pip install it" in capsys.readouterr().out
    assert run_json(capsys)[0] == 1
