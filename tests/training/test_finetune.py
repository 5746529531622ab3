"""Check that fine-tuning on own data learns, resumes, ends with an adapter, and changes only the chosen parts."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.own_pictures import write_squares
from support.small_model import build_model, draw_sample

from sa2va.checkpoints.folder import load_checkpoint
from sa2va.data import catalog
from sa2va.data.base import Generated
from sa2va.inference.loading import load
from sa2va.model.losses import LossConfig
from sa2va.training.adapt import AdaptConfig, AdaptModule
from sa2va.training.finetune import FinetuneRun, configure, measure_cost
from sa2va.training.mixture import DatasetShare
from sa2va.training.named_masks import QuestionEncoder
from sa2va.training.run import train_run
from sa2va.training.stage import RunContext
from sa2va.training.state import read_state
from sa2va.training.trainer import _StageRun

LIGHT = ["steps=4", "batch_size=2", "num_workers=0", "save_every=2", "device=cpu", "num_points=64", "mask_side=32"]
DEEP = [
    "steps.masks=4", "batch_size.masks=2", "num_workers.masks=0", "steps.adapt=4", "batch_size.adapt=2",
    "num_workers.adapt=0", "validate_every.masks=4", "validate_every.adapt=4", "validation_items.masks=2",
    "validation_items.adapt=2", "device=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def base(folder: Path) -> str:
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_squares(tmp_path_factory.mktemp("data"))
    return str(write_squares(folder, 3, first=100, name="val.json"))


def light(data: str, base: str, *words: str) -> FinetuneRun:
    changed = [word.replace("num_points", "losses.num_points") for word in LIGHT]
    return configure("light", data, base, [*changed, *words])


def losses(folder: Path, stage: str) -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row["losses"]["total"] for row in rows if row["stage"] == stage and "losses" in row]


def test_a_light_run_ends_with_an_adapter_that_load_takes(data: str, base: str, tmp_path: Path) -> None:
    run = light(data, base)
    train_run(run, tmp_path, quiet=True)
    adapted = load(base, adapter=tmp_path, device="cpu").model.state_dict()
    before = load_checkpoint(Path(base), torch.device("cpu"), torch.float32)[0].state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], adapted[name])}
    assert changed == {"mllm", "sam2", "projector"}
    frozen = [name for name in before if "memory_" in name or "vision_tower" in name or "embed_tokens" in name]
    assert frozen
    assert all(torch.equal(before[name], adapted[name]) for name in frozen)
    stat = (tmp_path / "adapter_model.safetensors").stat()
    cost = measure_cost(run)
    assert cost.adapter_bytes == sum(2 * t.numel() for t in load_file(tmp_path / "adapter_model.safetensors").values())
    assert cost.adapter_bytes <= stat.st_size < 1.2 * cost.adapter_bytes + 50_000
    train_run(run, tmp_path, quiet=True)  # the same command again changes nothing
    assert (tmp_path / "adapter_model.safetensors").stat().st_mtime_ns == stat.st_mtime_ns


def test_training_lowers_the_loss(data: str, base: str, tmp_path: Path) -> None:
    train_run(light(data, base, "steps=24", "log_every=4", "lr=3e-3", "warmup_steps=1"), tmp_path, quiet=True)
    found = losses(tmp_path, "adapt")
    assert found[-1] < 0.8 * found[0]


def test_an_interrupted_run_ends_with_the_same_adapter(
    data: str, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = light(data, base)
    train_run(run, tmp_path / "whole", quiet=True)
    take_step = _StageRun.take_step

    def stop_at_three(self: object, step: int, batches: object) -> None:
        if step == 3:
            raise KeyboardInterrupt
        take_step(self, step, batches)  # ty: ignore[invalid-argument-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_StageRun, "take_step", stop_at_three)
        train_run(run, tmp_path / "stopped", quiet=True)
    train_run(run, tmp_path / "stopped", quiet=True)
    whole, stopped = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_a_deep_run_trains_sam_first_and_then_the_whole_model(data: str, base: str, tmp_path: Path) -> None:
    run = configure("deep", data, base, DEEP)
    train_run(run, tmp_path, quiet=True)
    text = (tmp_path / "log.jsonl").read_text()
    assert "ciou" in text and "align" in text
    adapted = load(base, adapter=tmp_path, device="cpu").model.state_dict()
    masks = {name: saved.read() for name, saved in read_state(tmp_path / "masks" / "final").parts["weights"].items()}
    name = next(name for name in masks if "vision_encoder" in name and name.endswith("weight"))
    before = load_checkpoint(Path(base), torch.device("cpu"), torch.float32)[0].state_dict()
    plain = name.removeprefix("model.")
    assert not torch.equal(before[plain], adapted[plain])
    step = (adapted[plain].float() - masks[name]).norm() / (masks[name] - before[plain]).norm()
    assert step < 3  # the second stage starts from the weights of the first


def test_fine_tuning_continues_from_an_adapter(data: str, base: str, tmp_path: Path) -> None:
    train_run(light(data, base), tmp_path / "first", quiet=True)
    again = light(data, base, f"adapter={tmp_path / 'first'}", "steps=1", "lr=0")
    train_run(again, tmp_path / "second", quiet=True)
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_quantized_base_gives_an_adapter_for_the_plain_one(data: str, base: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    for name, word in (("plain", "seed=0"), ("int4", "quantize=int4")):
        train_run(light(data, base, "steps=1", word), tmp_path / name, quiet=True)
    plain, packed = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("plain", "int4"))
    assert {name: tensor.shape for name, tensor in plain.items()} == {n: t.shape for n, t in packed.items()}
    load(base, adapter=tmp_path / "int4", device="cpu")


def test_rehearsal_mixes_other_datasets(data: str, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.DATASETS, "drawn", lambda: Generated(lambda index: draw_sample(index)))
    run = light(data, base, "steps=20")
    stage = run.describe_stage(run.stages[0])
    assert isinstance(stage, AdaptConfig)
    stage = dataclasses.replace(stage, datasets=(DatasetShare(name="drawn", weight=1.0),))
    model, processor = build_model()
    context = RunContext(model=model, processor=processor, seed=0, folder=tmp_path, device=torch.device("cpu"))
    built = stage.build(context).data
    tasks = [built[key].sample.task for step in range(20) for key in built.keys(step)]
    assert 0.3 < tasks.count("own") / len(tasks) < 0.7


def test_alignment_without_the_stage_before_is_refused(data: str, base: str, tmp_path: Path) -> None:
    run = light(data, base, "align=1")
    with pytest.raises(ValueError, match="align needs a stage of named masks before it"):
        train_run(run, tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        ("huge", [], "unknown recipe 'huge'; expected one of light, deep"),
        ("light", ["ranks=4"], "no setting 'ranks'"),
        ("light", ["lora_rank=0"], "an adapter needs LoRA weights; set lora_rank to 1 or more"),
        ("light", ["trains_mask_decoder=no"], "trains_mask_decoder are not used here; set parts.embeddings"),
        ("light", ["parts.text_model=all"], "expected one of frozen, lora, full"),
        ("light", ["augment.flip=3"], "augment: flip is 3.0; expected 0 to 1"),
    ],
)
def test_wrong_settings_are_refused(recipe: str, words: list[str], message: str, data: str, base: str) -> None:
    with pytest.raises(ValueError, match=message):
        configure(recipe, data, base, words)


def test_questions_stay_with_their_masks_if_turns_are_dropped(data: str, base: str, tmp_path: Path) -> None:
    run = light(data, base)
    stage = run.describe_stage(run.stages[0])
    assert isinstance(stage, AdaptConfig)
    model, processor = build_model()
    context = RunContext(model=model, processor=processor, seed=0, folder=tmp_path, device=torch.device("cpu"))
    built = stage.build(context).data
    item = built[built.keys(0)[0]]
    turn = next(turn for turn in item.sample.turns if turn.spans)
    other = dataclasses.replace(turn, question=f"Now, {turn.question}")
    long, short = (dataclasses.replace(item.sample, turns=turns) for turns in ((turn,) * 4, (other,)))
    items = [dataclasses.replace(item, sample=sample) for sample in (long, short)]
    whole = built.collate([items[0]])
    limit = int(whole.attention_mask.sum()) - 1  # the last turn does not fit
    built.config = dataclasses.replace(built.config, max_tokens=limit)
    batch = built.collate(items)
    assert batch.counts["dropped_turns"] == 1
    alone = built.collate([items[1]])
    assert torch.equal(batch.question_ids[-1][batch.is_word[-1]], alone.question_ids[0][alone.is_word[0]])
    assert len(batch.question_ids) == len(batch.seg_positions)
    questions = QuestionEncoder([], len(processor.tokenizer), model.sam2.width)
    module = AdaptModule(model, LossConfig(num_points=16), questions, align=1.0)
    with torch.no_grad():
        terms = module(batch)
    counted = module.count_rows(batch)
    assert {name: counted[name] for name in terms} == {name: float(term.count) for name, term in terms.items()}
    assert terms["align"].count


def test_a_run_on_another_base_is_not_resumed(data: str, base: str, tmp_path: Path) -> None:
    train_run(light(data, base, "steps=1"), tmp_path / "out", quiet=True)
    other = tmp_path / "other"
    shutil.copytree(base, other)
    with pytest.raises(ValueError, match=f"origin of stage adapt was .*start={base}.* and is now .*start={other}"):
        train_run(light(data, str(other), "steps=1"), tmp_path / "out", quiet=True)
