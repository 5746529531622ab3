"""Check that a dry run counts what training has: parameters, kept activations, shares; and names what is missing."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support.small_families import build_family
from support.small_model import build_model, draw_sample
from torch.autograd.graph import saved_tensors_hooks

from sa2va.checkpoints.folder import save_checkpoint
from sa2va.data import catalog
from sa2va.data.base import Generated
from sa2va.model.losses import LossConfig
from sa2va.training.memory_plan import Load, measure_step
from sa2va.training.mixture import DatasetShare
from sa2va.training.plan import ALL_SAVERS, AS_CONFIGURED, StartModel, plan_run
from sa2va.training.stage import RunContext, StageConfig
from sa2va.training.supervised import SupervisedConfig, SupervisedRun, SupervisedStage, choose_trained, new_token_ids

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    model, processor = build_model(seed=1)
    save_checkpoint(model, processor.tokenizer, folder, torch.float32)
    return folder


@pytest.fixture(autouse=True)
def datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.DATASETS, "pictures", partial(Generated, draw_sample, 30))
    monkeypatch.setitem(catalog.DATASETS, "clips", partial(Generated, partial(draw_sample, num_frames=7), 10))


def describe(start: Path, **changes: object) -> SupervisedRun:
    shares = (DatasetShare(name="pictures", repeats=2), DatasetShare(name="clips", repeats=1))
    stage = SupervisedConfig(
        name="supervised", steps=0, epochs=2, batch_size=4, accumulate=2, datasets=shares, mask_side=64,
        losses=LossConfig(num_points=200), lora_rank=4, autocast=False,
    )  # fmt: skip
    return SupervisedRun(name="small", output="", start=str(start), device="cpu", stages=(replace(stage, **changes),))


def build_stage(run: SupervisedRun) -> SupervisedStage:
    model, processor = run.build_model(Path())
    stage = run.stages[0].build(RunContext(model=model, processor=processor, seed=0, folder=Path(), device=CPU))
    assert isinstance(stage, SupervisedStage)
    return stage


def test_a_plan_counts_what_training_has(start: Path) -> None:
    run = describe(start, new_tokens="rows")
    (plan,) = plan_run(run).stages
    stage = build_stage(run)
    sizes = {True: 0, False: 0}
    for parameter in stage.module.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    assert sum(part.trained for part in plan.parts) == sizes[True]
    assert sum(part.frozen for part in plan.parts) == sizes[False]
    assert next(part for part in plan.parts if part.part == "vision_tower").trained == 0
    assert (plan.steps, plan.samples, plan.load.samples) == (len(stage.data), 4, 2)
    memory = plan.memory[AS_CONFIGURED]
    assert (memory.weights, memory.gradients) == (4 * sum(sizes.values()), 4 * sizes[True])
    assert memory.optimizer == 2 * memory.gradients
    assert [row["records"] for row in plan.mixture] == [30, 10]
    assert [row["drawn"] for row in plan.mixture] == pytest.approx([6 / 7, 1 / 7], abs=0.02)
    savers = {name: found.total for name, found in plan.memory.items()}
    # Without autocast, frozen matrices stay in float32.
    assert savers[ALL_SAVERS] <= savers["gradient_checkpointing=true"] < savers[AS_CONFIGURED]


@pytest.mark.parametrize("kind", ["embedded", "embedded, bfloat16", "internvl_internlm2", "qwen3_vl"])
def test_activations_are_those_that_autograd_keeps(kind: str) -> None:
    small = kind.startswith("embedded")
    model, processor = build_model(seed=1) if small else build_family(kind)
    config = describe(Path(), autocast=kind.endswith("bfloat16"), trains_vision_projector=small).stages[0]
    assert isinstance(config, SupervisedConfig)
    choose_trained(model, config, new_token_ids(processor))
    model.train()
    batch = processor([draw_sample(0), draw_sample(1, num_frames=3)], mask_side=64)
    load = Load.of(batch)
    plan = measure_step(copy.deepcopy(model), config, load, CPU).plan(config)
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.in_bfloat16):
            terms = model(batch, config.losses)
    for tensor in (*model.parameters(), *vars(batch).values()):
        if isinstance(tensor, torch.Tensor) and tensor.numel():
            kept.pop(tensor.untyped_storage().data_ptr(), None)
    wanted = sum(storage.nbytes() for storage in kept.values())
    assert plan.activations - load.nbytes == pytest.approx(wanted, rel=0.1)
    assert {"lm", "bce"} <= terms.keys()


def test_sharded_weights_are_counted_once_over_all_processes() -> None:
    model, processor = build_model(seed=1)
    config = describe(Path()).stages[0]
    assert isinstance(config, SupervisedConfig)
    choose_trained(model, config, new_token_ids(processor))
    load = Load.of(processor([draw_sample(0)], mask_side=64))
    memory = measure_step(model, config, load, CPU)
    whole, copied = memory.plan(config), memory.plan(config, 4)
    shared = memory.plan(replace(config, parallel="fsdp"), 4)
    assert whole == copied and shared.optimizer == whole.optimizer // 4
    assert shared.weights == whole.weights // 4 + memory.rest
    assert shared.gradients == whole.gradients // 4 + memory.trained_rest


def test_what_is_missing_is_named(start: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere/ref_seg/refcoco not found; put the data there"):
        plan_run(describe(start, datasets=(DatasetShare(name="refcoco", repeats=1),), data="nowhere"))
    with pytest.raises(ValueError, match="run small needs a model to start from"):
        plan_run(replace(describe(start), start=""))
    other = StageConfig(name="other", steps=1, batch_size=1, lr=1e-4)
    with pytest.raises(ValueError, match="a dry run describes supervised training alone"):
        plan_run(replace(describe(start), stages=(other,)))


def test_the_config_of_a_released_model_is_enough() -> None:
    run = replace(copy.copy(describe(Path())), start="ByteDance/Sa2VA-1B")
    model, processor = StartModel.of(run).outline(run)
    assert next(model.parameters()).is_meta and model.mllm.image_token_id == processor.image_id
    assert 1.0e9 < sum(parameter.numel() for parameter in model.parameters()) < 1.4e9
