"""Check that the supervised stage trains every family on any mixture, and freezes what the paper freezes."""

import copy
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support.small_families import build_family
from support.small_model import build_model, draw_sample

from sa2va.checkpoints.folder import load_checkpoint, save_checkpoint
from sa2va.data import catalog
from sa2va.data.base import Generated
from sa2va.model.losses import LossConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.logger import RunLogger
from sa2va.training.stage import RunContext
from sa2va.training.supervised import DatasetShare, SupervisedConfig, SupervisedData, SupervisedRun
from sa2va.training.trainer import run_stage
from sa2va.types import Sample, Turn


def draw_text(index: int) -> Sample:
    return Sample(turns=(Turn(question=f"Say {index % 3}.", answer=f"It is {index % 3}."),))


@pytest.fixture(autouse=True)
def datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"pictures": draw_sample, "clips": partial(draw_sample, num_frames=7), "texts": draw_text}
    for name, build in parts.items():
        monkeypatch.setitem(catalog.DATASETS, name, partial(Generated, build))


def describe(**more: object) -> SupervisedConfig:
    shares = (DatasetShare(name="pictures", weight=2), DatasetShare(name="clips"), DatasetShare(name="texts"))
    config = SupervisedConfig(
        name="supervised", steps=20, batch_size=4, lr=5e-3, warmup_steps=2, datasets=shares, num_frames=2,
        mask_side=64, losses=LossConfig(num_points=200), lora_rank=4, log_every=4, num_workers=0,
    )  # fmt: skip
    return replace(config, **more)


def share(model: Sa2VA, processor: Processor, folder: Path) -> RunContext:
    return RunContext(model=model, processor=processor, seed=0, folder=folder, device=torch.device("cpu"))


@pytest.mark.parametrize("kind", ["embedded", "internvl_internlm2", "qwen3_vl", "llava"])
def test_twenty_steps_lower_the_loss_of_every_family(kind: str, tmp_path: Path) -> None:
    model, processor = build_model(seed=1) if kind == "embedded" else copy.deepcopy(build_family(kind))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stage = describe().build(share(model, processor, tmp_path))
    with RunLogger(tmp_path, quiet=True) as logger:
        run_stage(stage, tmp_path, "cpu", logger)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["losses"] for line in lines if "losses" in line]
    assert set(losses[-1]) >= {"lm", "bce", "dice", "total"}
    assert losses[-1]["total"] < 0.8 * losses[0]["total"], losses
    assert losses[-1]["lm"] < losses[0]["lm"]
    SupervisedRun(name="r", output="o", stages=(stage.config,)).finish(model, processor)
    after = model.state_dict()
    assert after.keys() == before.keys()  # adapters are merged
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    for part in (
        "mllm.native.lm_head",
        "mllm.native.model.language_model.layers.0",
        "projector",
        "sam2.native.mask_decoder",
    ):
        assert any(name.startswith(part) for name in changed), part
    frozen = (
        "sam2.native.vision_encoder",
        "sam2.native.memory",
        "mask_decoder.iou_prediction_head",
        "vision_tower",
        "visual.blocks",
    )
    assert not [name for name in changed if any(part in name for part in frozen)]


def test_a_batch_depends_on_its_step_alone_and_reads_chosen_frames() -> None:
    _, processor = build_model()
    data, again = (SupervisedData(describe(), processor) for _ in range(2))
    items = [data[key] for key in data.keys(3)]
    assert [item.keyframes for item in items] == [again[key].keyframes for key in again.keys(3)]
    clips = [
        item.keyframes for step in range(30) for key in data.keys(step) if (item := data[key]).sample.num_frames == 7
    ]
    assert all(len(chosen) == 2 and chosen == sorted(set(chosen)) for chosen in clips)
    assert len({tuple(chosen) for chosen in clips}) > 5  # at random
    uniform = SupervisedData(describe(frames="uniform"), processor)
    assert {tuple(uniform[(i,)].keyframes) for i in range(40)} == {(), (0,), (0, 6)}
    one, other = data.collate(items), again.collate([again[key] for key in again.keys(3)])
    assert torch.equal(one.input_ids, other.input_ids) and torch.equal(one.seg_seeds, other.seg_seeds)


def test_without_lora_the_whole_language_model_is_trained(tmp_path: Path) -> None:
    model, processor = build_model(seed=1)
    config = describe(lora_rank=0, trains_vision_projector=False, trains_mask_decoder=False)
    stage = config.build(share(model, processor, tmp_path))
    trained = {id(parameter) for parameter in stage.parameters()}
    wanted = [
        *model.mllm.text_model.parameters(),
        *model.mllm.native.lm_head.parameters(),
        *model.projector.parameters(),
    ]
    assert trained == {id(parameter) for parameter in wanted}


def test_an_unknown_dataset_is_named(tmp_path: Path) -> None:
    config = describe(datasets=(DatasetShare(name="nowhere"),))
    with pytest.raises(ValueError, match="dataset 'nowhere' is unknown"):
        config.build(share(*build_model(), tmp_path))


def test_a_run_changes_the_design_of_mask_tokens_of_the_model_that_it_starts_from(tmp_path: Path) -> None:
    model, processor = copy.deepcopy(build_model(seed=1))
    save_checkpoint(model, processor.tokenizer, tmp_path / "start", torch.float32)
    run = SupervisedRun(
        name="r", output="o", stages=(describe(),), start=str(tmp_path / "start"), seg_design="multiple"
    )
    changed, writer = run.build_model(tmp_path)
    ids = writer.tokenizer.convert_tokens_to_ids(list(writer.design.object_tokens(4)))
    assert list(writer.seg_tokens) == ids and min(ids) >= len(processor.tokenizer)
    for name in ("get_input_embeddings", "get_output_embeddings"):
        old, new = (getattr(m.mllm.native, name)().weight for m in (model, changed))
        assert torch.equal(new[: len(old)], old) and torch.equal(new[ids], old[[processor.seg_id] * 4])
    batch = writer([draw_sample(0, num_frames=3)], mask_side=64)
    assert len(batch.seg_positions) == 3
    save_checkpoint(changed, writer.tokenizer, tmp_path / "end", torch.float32)
    again, reader = load_checkpoint(tmp_path / "end", torch.device("cpu"), torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(again(batch)["lm"].total, changed(batch)["lm"].total)
    assert torch.equal(reader([draw_sample(0, num_frames=3)]).input_ids, batch.input_ids)
