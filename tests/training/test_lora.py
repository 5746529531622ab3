"""Check that an adapter of the whole model, saved and loaded again, gives the trained model, also by peft itself."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.small_model import build_model, draw_sample
from torch import Tensor, nn

from sa2va.checkpoints.adapter import merge_adapter, read_adapter
from sa2va.model.losses import LossConfig
from sa2va.model.sa2va import Sa2VA
from sa2va.training.lora import add_lora, load_adapter, merge_lora, save_adapter, trained_modules
from sa2va.training.parts import PartsConfig, choose_parts

peft = pytest.importorskip("peft", reason="pip install 'sa2va[train]'")
WAYS = (
    PartsConfig(),
    PartsConfig(vision_tower="full", sam_encoder="full", vision_projector="full", embeddings="full"),
    PartsConfig(text_model="frozen", projector="lora", mask_decoder="frozen", vision_tower="lora"),
)


def train_a_little(parts: PartsConfig, losses: LossConfig | None = None) -> Sa2VA:
    """Return a model whose trained parameters were all changed."""
    model, _ = build_model()
    choose_parts(model, parts, losses or LossConfig(), rank=16)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def losses_of(model: Sa2VA) -> dict[str, float]:
    _, processor = build_model()
    batch = processor([draw_sample(3)], mask_side=32)
    with torch.no_grad():
        return {name: float(term.mean) for name, term in model.eval()(batch).items()}


@pytest.mark.parametrize("parts", WAYS, ids=["default", "nearly everything", "few"])
def test_a_saved_adapter_gives_the_trained_model(parts: PartsConfig, tmp_path: Path) -> None:
    trained = train_a_little(parts)
    save_adapter(trained, tmp_path, "base", torch.float32)
    loaded, _ = build_model()
    before = losses_of(loaded)
    merge_adapter(loaded, tmp_path)
    assert losses_of(loaded) == pytest.approx(losses_of(trained), abs=1e-4)
    assert losses_of(loaded) != pytest.approx(before, abs=3e-4)
    assert loaded.state_dict().keys() == build_model()[0].state_dict().keys()  # nothing of peft is left


def test_peft_itself_loads_the_adapter(tmp_path: Path) -> None:
    trained = train_a_little(PartsConfig())
    save_adapter(trained, tmp_path, "base", torch.float32)
    wrapped = peft.PeftModel.from_pretrained(build_model()[0], str(tmp_path))
    assert losses_of(wrapped.merge_and_unload()) == pytest.approx(losses_of(trained), abs=1e-4)


def test_merging_gives_the_adapted_model(tmp_path: Path) -> None:
    trained = train_a_little(PartsConfig(sam_encoder="lora"))
    expected = losses_of(trained)
    merge_lora(trained)
    assert losses_of(trained) == pytest.approx(expected, abs=1e-4)
    assert trained.state_dict().keys() == build_model()[0].state_dict().keys()


def test_training_continues_from_an_adapter(tmp_path: Path) -> None:
    trained = train_a_little(PartsConfig())
    save_adapter(trained, tmp_path, "base", torch.float32)
    again, _ = build_model()
    choose_parts(again, PartsConfig(), LossConfig(), rank=16)
    load_adapter(again, read_adapter(tmp_path)[1], tmp_path)
    assert losses_of(again) == pytest.approx(losses_of(trained), abs=1e-5)


@pytest.mark.parametrize(
    ("parts", "rank", "message"),
    [
        (PartsConfig(sam_encoder="frozen"), 16, "only the adapter has sam2.*train the parts that the adapter has"),
        (PartsConfig(vision_tower="lora"), 16, "only this run trains mllm.*train the parts that the adapter has"),
        (PartsConfig(), 4, "this run trains .*set the LoRA rank of the adapter"),
    ],
)
def test_an_adapter_of_other_parts_is_refused(parts: PartsConfig, rank: int, message: str, tmp_path: Path) -> None:
    save_adapter(train_a_little(PartsConfig()), tmp_path, "base")
    model, _ = build_model()
    choose_parts(model, parts, LossConfig(), rank=rank)
    with pytest.raises(ValueError, match=message) as error:
        load_adapter(model, read_adapter(tmp_path)[1], tmp_path)
    assert "\n" not in str(error.value)


def test_each_part_is_trained_in_its_way() -> None:
    model, _ = build_model()
    choose_parts(model, PartsConfig(vision_tower="full", mask_decoder="lora"), LossConfig(), rank=16)
    assert all(parameter.requires_grad for parameter in model.mllm.vision_tower.parameters())
    assert not model.mllm.native.get_input_embeddings().weight.requires_grad
    for part in (model.mllm.text_model, model.sam2.native.mask_decoder):
        trained = [name for name, parameter in part.named_parameters() if parameter.requires_grad]
        assert trained
        assert all("lora_" in name for name in trained)
    assert not any(p.requires_grad for p in model.sam2.native.memory_attention.parameters())


def test_a_head_without_a_loss_stays_frozen() -> None:
    model, _ = build_model()
    choose_parts(model, PartsConfig(), LossConfig(iou=1.0), rank=16)
    decoder = model.sam2.native.mask_decoder
    assert all(parameter.requires_grad for parameter in decoder.iou_prediction_head.parameters())
    assert not any(parameter.requires_grad for parameter in decoder.pred_obj_score_head.parameters())


def test_files_are_those_of_peft(tmp_path: Path) -> None:
    model = train_a_little(PartsConfig())
    save_adapter(model, tmp_path, "tiny")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["base_model_name_or_path"]) == ("LORA", 16, "tiny")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    number = sum(tensor.numel() for tensor in tensors.values())
    assert number >= sum(p.numel() for p in model.parameters() if p.requires_grad)  # a part is saved as a whole


class Twin(nn.Module):
    """A name that ends another one, and a list of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.big_head = nn.Sequential(nn.Linear(2, 2))
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def test_trained_modules_have_clear_names_and_a_forward() -> None:
    model = Twin()
    assert trained_modules(model) == ["head", "big_head", "layers.0", "layers.1"]
    model.layers[0].requires_grad_(False)
    assert trained_modules(model) == ["head", "big_head", "layers.1"]


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"LoRA targets \['wqkv'\]: no layer has such a name; it has .*q_proj"):
        add_lora(build_model()[0], 4, targets=("wqkv",))


def test_an_adapter_without_lora_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="an adapter needs LoRA weights in at least one part"):
        PartsConfig(text_model="frozen", vision_projector="full", sam_encoder="full")
