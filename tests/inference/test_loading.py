"""Check how a model is found, and on which device and in which precision it is loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.fake_hub import COMMITS, FakeHub
from support.small_model import build_model, draw_sample

from sa2va.checkpoints import device
from sa2va.checkpoints.device import GIB, Place
from sa2va.checkpoints.device_map import Plan
from sa2va.checkpoints.released import RELEASED
from sa2va.inference import loading
from sa2va.inference.loading import load
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Request
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA

Small = tuple[Sa2VA, Processor]
QUESTION = "Please segment the red square."


def masks_of(predictor: Predictor) -> np.ndarray:
    return predictor.probe_batch([Request(draw_sample(3).frames[0], QUESTION)])[0].masks


def test_a_model_comes_from_a_hub(
    folder: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with FakeHub({"lab/small": {"main": {}, "v1": files}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        first = load("lab/small", revision="v1")
        hub.down = True
        again = load("lab/small", revision=COMMITS["v1"], offline=True)
    assert np.array_equal(masks_of(first), masks_of(predictor))
    assert np.array_equal(masks_of(again), masks_of(predictor))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "no/such/model"}, "no model 'no/such/model'; use tiny, a model folder, or org/name on the hub"),
        ({"name": "huge"}, "no model 'huge'"),
        ({"name": "lab/small", "offline": True}, "lab/small is not on this machine; load it once without offline"),
        ({"device": "abacus"}, "device 'abacus' is unknown"),
        ({"dtype": "float7"}, "unknown dtype 'float7'"),
        ({"quantize": "int2"}, "unknown quantize 'int2'; use int8, int4 or leave it out"),
        ({"adapter": "no/such/adapter"}, "no model 'no/such/adapter'"),
        ({"sam": "no/such/sam"}, "no model 'no/such/sam'"),
        ({"adapter": "."}, "is not a LoRA adapter: it has no adapter_config.json"),
        ({"sam": "."}, "is not a model folder: it has no config.json"),
        ({"name": "."}, "is not a model folder: it has no config.json"),
    ],
)
def test_bad_arguments(
    arguments: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if arguments.get("adapter") == ".":
        pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=message) as error:
        load(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("abilities", "smallest", "kind"),
    [
        ({"avx512_bf16": True}, 1, torch.bfloat16),
        ({"avx512_bf16": True}, 10**9, torch.float32),
        ({}, 1, torch.float32),
    ],
)
def test_the_precision_follows_the_processor_and_the_size(
    folder: Path, abilities: dict[str, bool], smallest: int, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    monkeypatch.setattr(device, "SMALL_MODEL", smallest)
    assert load(folder, device="cpu").dtype == kind
    assert load(folder, device="cpu", dtype="float32").dtype == torch.float32


def test_a_model_too_large_for_one_gpu_is_planned_over_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    config = RELEASED["ByteDance/Sa2VA-8B"].config  # 16 GiB in bfloat16

    def choose(gibs: list[float], may_spread: bool = True) -> tuple[torch.device, Plan | None]:
        places = [Place(f"cuda:{i}", "GPU", 80 * GIB, int(gib * GIB)) for i, gib in enumerate(gibs)]
        monkeypatch.setattr(loading, "list_places", lambda: [*places, Place("cpu", "2 cores", 64 * GIB, 64 * GIB)])
        return loading._choose_gpus(config, torch.bfloat16, may_spread=may_spread)

    roomier = torch.device("cuda:1")
    assert choose([10, 24]) == (roomier, None)
    where, plan = choose([10, 16])
    assert where == roomier and plan is not None and set(plan.values()) == {0, 1}
    where, plan = choose([8])
    assert where == torch.device("cuda:0") and plan is not None and set(plan.values()) == {0, "cpu"}
    assert choose([10, 16], may_spread=False) == (roomier, None)


def test_too_little_memory_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(loading, "load_weights", fail)
    with pytest.raises(ValueError, match="does not fit the memory of cpu; `sa2va doctor") as error:
        load(folder)
    assert "\n" not in str(error.value)


# ---- the original SAM 2


@pytest.fixture
def sam_folder(tmp_path: Path) -> Path:
    model, _ = build_model(seed=5)
    model.sam2.native.save_pretrained(tmp_path / "sam2")
    return tmp_path / "sam2"


def test_the_original_sam2_is_loaded_whole(folder: Path, sam_folder: Path) -> None:
    predictor = load(folder, sam=sam_folder)
    expected = build_model(seed=5)[0].sam2.state_dict()
    assert predictor.original_sam2 is not None
    got = predictor.original_sam2.state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)
    assert not torch.equal(next(predictor.model.sam2.parameters()), next(predictor.original_sam2.parameters()))
    assert load(folder).original_sam2 is None


def drop_memory(folder: Path) -> None:
    tensors = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("memory_")}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def cut_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def describe(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def describe_a_parrot(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "parrot"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_memory, "tensor memory_.* is missing; sam needs a whole SAM 2, as in facebook/sam2-hiera-large"),
        (cut_weights, "holds no SAM 2 that can be read"),
        (pickle_weights, "holds no SAM 2 that can be read"),
        (describe_a_parrot, "describes a 'parrot' model; sam needs SAM 2"),
        (
            lambda f: describe(f, memory_attention_num_layers=10**9),
            "memory_attention_num_layers is 1000000000; expected",
        ),
        (
            lambda f: describe(f, memory_attention_num_layers=250),
            "memory_attention_num_layers is 250, the weights have",
        ),
        (lambda f: describe(f, image_size="64"), "image_size is '64'; expected"),
        (lambda f: describe(f, memory_attention_hidden_size=65), "holds no SAM 2 that can be read"),
        (lambda f: describe(f, quantization_config={"a": 1}), "quantization_config is .*; expected none"),
        (lambda f: (f / "config.json").write_text('{"a":' * 100_000), "is nested more than 64 deep"),
    ],
)
def test_a_wrong_sam2_is_refused(sam_folder: Path, damage, message: str) -> None:
    damage(sam_folder)
    with pytest.raises(ValueError, match=message) as error:
        load("tiny", sam=sam_folder)
    assert "\n" not in str(error.value)
