"""Check that a model folder survives every change of layout bit by bit, and every change of precision as asked."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.published_folder import make_published, write_published
from torch import Tensor

from sa2va.checkpoints.conversion import open_source, write_folder
from sa2va.checkpoints.folder import load_checkpoint, open_checkpoint
from sa2va.checkpoints.published.layout import is_published

CPU = torch.device("cpu")


def rewrite(source: Path, target: Path, **options: object) -> dict[str, Tensor]:
    """Convert a folder; return all tensors of the result."""
    target.mkdir()
    write_folder(open_checkpoint(source), target, **options)
    return {name: value for path in sorted(target.glob("*.safetensors")) for name, value in load_file(path).items()}


def same_bits(one: Tensor, other: Tensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("kind", ["internvl_internlm2", "internvl_phi3", "qwen3_vl"])
def test_there_and_back_is_the_same_bits(kind: str, tmp_path: Path) -> None:
    tensors = write_published(tmp_path / "published", kind)
    ours = rewrite(tmp_path / "published", tmp_path / "ours")
    assert ours.keys() == make_published(kind)[0].state_dict().keys()
    back = rewrite(tmp_path / "ours", tmp_path / "back", to_published=True, shard_bytes=100_000)
    assert back.keys() == tensors.keys()
    assert all(same_bits(back[name], tensor) for name, tensor in tensors.items())
    assert len(list((tmp_path / "back").glob("model-*-of-*.safetensors"))) > 1
    assert is_published(json.loads((tmp_path / "back" / "config.json").read_text()))
    before, after = (open_checkpoint(tmp_path / name) for name in ("published", "back"))
    assert before.config == after.config
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()


@pytest.mark.parametrize("layout", [False, True])
def test_a_folder_holds_nothing_but_weights_config_and_tokenizer(layout: bool, tmp_path: Path) -> None:
    write_published(tmp_path / "published")
    (tmp_path / "published" / "modeling_sa2va_chat.py").write_text("raise RuntimeError")
    rewrite(tmp_path / "published", tmp_path / "new", to_published=layout)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_precision_is_changed_as_asked(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = write_published(tmp_path / "published")
    new = rewrite(tmp_path / "published", tmp_path / "new", to_published=True, dtype=dtype)
    assert all(same_bits(new[name], tensor.to(dtype)) for name, tensor in tensors.items())
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["torch_dtype"] == str(dtype).removeprefix("torch.")


def test_mixed_precision_is_kept_and_stays_readable(tmp_path: Path) -> None:
    """A narrow tensor of odd length before a wide one would misalign the wide one for memory mapping."""
    tensors = write_published(tmp_path / "published")
    mixed = {name: t.to((torch.bfloat16, torch.float32)[n % 2]) for n, (name, t) in enumerate(sorted(tensors.items()))}
    fused = [name for name in mixed if "point_embeddings" in name]  # rows of one native tensor
    mixed |= {name: tensors[name] for name in fused}
    save_file(mixed, tmp_path / "published" / "model.safetensors")
    new = rewrite(tmp_path / "published", tmp_path / "new", to_published=True)
    assert all(same_bits(new[name], tensor) for name, tensor in mixed.items())
    ours = rewrite(tmp_path / "new", tmp_path / "ours")
    assert {t.dtype for t in ours.values()} == {torch.bfloat16, torch.float32}
    with safe_open(tmp_path / "ours" / "model.safetensors", framework="pt") as file:
        assert all(file.get_tensor(name).shape == tensor.shape for name, tensor in ours.items())


def test_a_converted_folder_loads_as_the_source(tmp_path: Path) -> None:
    write_published(tmp_path / "published", "internvl_internlm2")
    rewrite(tmp_path / "published", tmp_path / "ours", dtype=torch.bfloat16)
    one, other = (load_checkpoint(tmp_path / name, CPU, torch.bfloat16)[0] for name in ("published", "ours"))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_too_large_for_float16_is_refused(tmp_path: Path) -> None:
    tensors = dict(write_published(tmp_path / "published"))
    tensors["mlp1.1.bias"] = tensors["mlp1.1.bias"] + 1e6
    save_file(tensors, tmp_path / "published" / "model.safetensors")
    with pytest.raises(ValueError, match=r"mlp1.1.bias holds values beyond the range of float16"):
        rewrite(tmp_path / "published", tmp_path / "new", dtype=torch.float16)
    with pytest.raises(ValueError, match="beyond the range of float16"):
        load_checkpoint(tmp_path / "published", CPU, torch.float16)


# ---- pickles


def pickle_weights(folder: Path, name: str = "pytorch_model.bin", wrapper: str | None = None) -> dict[str, Tensor]:
    tensors = write_published(folder)
    (folder / "model.safetensors").unlink()
    torch.save({wrapper: tensors} if wrapper else tensors, folder / name)
    return tensors


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [("pytorch_model.bin", None), ("weights.pt", "model"), ("iter_1000.pth", "state_dict"), ("last.ckpt", None)],
)
def test_pickles_are_read_on_request_only(name: str, wrapper: str | None, tmp_path: Path) -> None:
    tensors = pickle_weights(tmp_path / "pickled", name, wrapper)
    torch.save({"steps": 3}, tmp_path / "pickled" / "training_args.bin")
    with pytest.raises(ValueError, match=f"holds only {name}.*sa2va convert .* --unsafe-pickle-ok") as error:
        open_source(tmp_path / "pickled")
    assert "\n" not in str(error.value)
    (tmp_path / "new").mkdir()
    write_folder(open_source(tmp_path / "pickled", unsafe_pickle=True), tmp_path / "new", to_published=True)
    new = load_file(tmp_path / "new" / "model.safetensors")
    assert all(same_bits(new[key], tensor) for key, tensor in tensors.items())


def test_pickles_in_parts(tmp_path: Path) -> None:
    tensors = write_published(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    for n in range(2):
        torch.save({name: tensors[name] for name in names[n::2]}, tmp_path / f"pytorch_model-{n}.bin")
    places = {name: f"pytorch_model-{n % 2}.bin" for n, name in enumerate(names)}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert open_source(tmp_path, unsafe_pickle=True).files.outlines.keys() == tensors.keys()
    (tmp_path / "pytorch_model-1.bin").unlink()
    with pytest.raises(ValueError, match="has no pytorch_model-1.bin"):
        open_source(tmp_path, unsafe_pickle=True)


class Intruder:
    """Object whose pickle calls a function when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("intruder.txt"),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Intruder(), "holds more than tensors, or is damaged"),
        ({"weights": [1, 2]}, "is no file of named tensors"),
        ({}, "is no file of named tensors"),
        (None, "is no file of named tensors"),
    ],
)
def test_no_code_comes_from_a_pickle(
    content: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle_weights(tmp_path / "pickled")
    torch.save(content, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=message) as error:
        open_source(tmp_path / "pickled", unsafe_pickle=True)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "intruder.txt").exists()
