"""Check that the supervised stage trains every family on any mixture, and freezes what the paper freezes."""

import copy
import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support.small_families import build_family
from support.small_model import build_model, draw_sample

import sa2va
from sa2va.checkpoints.folder import load_checkpoint, save_checkpoint
from sa2va.data import catalog
from sa2va.data.base import Generated
from sa2va.inference.keyframes import choose_keyframes
from sa2va.inference.requests import Options
from sa2va.media.source import open_media
from sa2va.model.batch import Batch
from sa2va.model.losses import LossConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.seg_design import SEG_DESIGNS
from sa2va.training.logger import RunLogger
from sa2va.training.mixture import DatasetShare
from sa2va.training.run import train_run
from sa2va.training.stage import RunContext
from sa2va.training.supervised import SupervisedConfig, SupervisedData, SupervisedRun, new_token_ids
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
    weights = {"pictures": 2, "clips": 1, "texts": 1}
    shares = tuple(DatasetShare(name=name, weight=weight) for name, weight in weights.items())
    config = SupervisedConfig(
        name="supervised", steps=20, batch_size=4, lr=5e-3, warmup_steps=2, datasets=shares, num_frames=2,
        mask_side=64, losses=LossConfig(num_points=200), lora_rank=4, log_every=4, num_workers=0,
    )  # fmt: skip
    return replace(config, **more)


def share(model: Sa2VA, processor: Processor, folder: Path) -> RunContext:
    return RunContext(model=model, processor=processor, seed=0, folder=folder, device=torch.device("cpu"))


@pytest.mark.parametrize("kind", ["embedded", "internvl_internlm2", "qwen3_vl", "llava"])
def test_twenty_steps_lower_the_loss_of_every_family(kind: str, tmp_path: Path) -> None:
    model, processor = build_model(seed=1) if kind == "embedded" else build_family(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stage = describe().build(share(model, processor, tmp_path))
    with RunLogger(tmp_path, quiet=True) as logger:
        run_stage(stage, tmp_path, "cpu", logger)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["losses"] for line in lines if "losses" in line]
    assert set(losses[-1]) >= {"lm", "bce", "dice", "total"}
    assert losses[-1]["total"] < 0.8 * losses[0]["total"], losses
    assert losses[-1]["lm"] < losses[0]["lm"]
    start, end = [line["table"] for line in lines if "table" in line]
    assert [(row["dataset"], row["records"], row["wanted"]) for row in start] == [
        ("pictures", "endless", 0.5), ("clips", "endless", 0.25), ("texts", "endless", 0.25),
    ]  # fmt: skip
    assert sum(row["samples"] for row in end) == 80
    assert {f"drawn {row['dataset']}": row["samples"] for row in end}.items() <= lines[-2]["counts"].items()
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
    one, other = data.collate(items), again.collate([again[key] for key in again.keys(3)])
    assert torch.equal(one.input_ids, other.input_ids) and torch.equal(one.seg_seeds, other.seg_seeds)
    assert sum(count for name, count in one.counts.items() if name.startswith("drawn ")) == 4


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"frame_jitter": False}, {(0, 6)}),  # as prediction chooses them
        ({}, {(0, 3), (0, 4), (0, 5), (0, 6), (1, 6), (2, 6), (3, 6)}),
        ({"frames": "random"}, set(itertools.combinations(range(7), 2))),
        ({"num_frames": 0, "frame_jitter": False}, {(0, 2, 4, 6)}),  # of the model
    ],
)
def test_key_frames_of_training_are_those_of_the_model_or_random(settings: dict, wanted: set) -> None:
    _, processor = build_model()
    data = SupervisedData(describe(datasets=(DatasetShare(name="clips", weight=1),), **settings), processor)
    chosen = {tuple(data[key].keyframes) for step in range(20) for key in data.keys(step)}
    assert chosen <= wanted and len(chosen) >= min(len(wanted), 6)


def test_content_key_frames_are_chosen_in_training_as_in_prediction() -> None:
    _, processor = build_model()
    processor.config = replace(processor.config, keyframes="content")
    data = SupervisedData(describe(datasets=(DatasetShare(name="clips", weight=1),)), processor)
    for key in data.keys(0):
        item = data[key]
        assert item.keyframes == choose_keyframes(open_media(item.sample.frames), "content", 2)[0]


def test_frames_of_a_run_are_those_of_the_model_that_it_saves(tmp_path: Path) -> None:
    model, processor = build_model(seed=1)
    describe(num_frames=3).build(share(model, processor, tmp_path))
    assert model.config.num_keyframes == processor.config.num_keyframes == 3
    model, processor = build_model(seed=1, seg_design="multiple")
    with pytest.raises(ValueError, match=r"num_frames is 5, and the tokenizer has no \[SEG_5\]"):
        describe(num_frames=5).build(share(model, processor, tmp_path))


def test_one_sample_that_does_not_fit_is_named_by_dataset_and_record() -> None:
    _, processor = build_model()
    data = SupervisedData(describe(max_tokens=30), processor)
    items = [data[key] for step in range(5) for key in data.keys(step)]
    with pytest.raises(ValueError, match=r"^dataset pictures, item \d+, epoch 0: question, pictures and 1 mask tokens"):
        data.collate([item for item in items if item.dataset == "drawn pictures"])


@pytest.mark.parametrize("kind", ["internvl_internlm2", "internvl_qwen2", "qwen2_5_vl"])
def test_new_tokens_are_trained_alone_in_both_matrices_of_every_family(kind: str, tmp_path: Path) -> None:
    model, processor = build_family(kind)
    tables = (model.mllm.native.get_input_embeddings(), model.mllm.native.get_output_embeddings())
    before = [table.weight.clone() for table in tables]
    names = set(model.state_dict())
    config = describe(new_tokens="rows", steps=3, lr=1e-2, weight_decay=0.5, warmup_steps=1)
    stage = config.build(share(model, processor, tmp_path))
    rows = [table.new_rows for table in tables]
    assert {id(row) for row in rows} <= {id(parameter) for parameter in stage.parameters()}
    assert not any(table.weight.requires_grad for table in tables)
    batch = stage.data.collate([stage.data[key] for key in stage.data.keys(0)])
    hidden = stage.module(batch)["lm"].total
    with RunLogger(tmp_path, quiet=True) as logger:
        run_stage(stage, tmp_path, "cpu", logger)
    with torch.no_grad():
        split = stage.module.eval()(batch)["lm"].total
        SupervisedRun(name="r", output="o", stages=(config,)).finish(model, processor)
        torch.testing.assert_close(stage.module(batch)["lm"].total, split)
    assert torch.isfinite(hidden) and set(model.state_dict()) == names
    new = new_token_ids(processor)
    for table, old in zip(tables, before, strict=True):
        changed = (table.weight != old).any(1).nonzero().flatten().tolist()
        assert changed and set(changed) <= set(new)
        if table is tables[1]:
            assert changed == new  # each logit is in every softmax


def test_new_rows_stay_in_float32_beside_halved_matrices(tmp_path: Path) -> None:
    model, processor = build_model(seed=1)
    stage = describe(new_tokens="rows", halves_frozen=True, gradient_checkpointing=True).build(
        share(model, processor, tmp_path)
    )
    head = model.mllm.native.get_output_embeddings()
    assert (head.weight.dtype, head.new_rows.dtype) == (torch.bfloat16, torch.float32)
    batch = stage.data.collate([stage.data[key] for key in stage.data.keys(0)])
    with torch.autocast("cpu", torch.bfloat16):
        loss = sum(term.total for term in stage.module.train()(batch).values())
    loss.backward()
    for table in (model.mllm.native.get_input_embeddings(), head):
        assert table.new_rows.grad.isfinite().all() and table.new_rows.grad.any() and table.weight.grad is None


def test_whole_matrices_are_trained_in_every_family_and_the_head_gets_no_lora(tmp_path: Path) -> None:
    for kind in ("internvl_internlm2", "qwen3_vl", "llava"):
        model, processor = build_family(kind)
        stage = describe().build(share(model, processor, tmp_path))
        trained = {id(parameter) for parameter in stage.parameters()}
        for table in (model.mllm.native.get_input_embeddings(), model.mllm.native.get_output_embeddings()):
            assert id(table.weight) in trained and not hasattr(table, "lora_A")
        linear = [name for name, part in model.mllm.text_model.named_modules() if hasattr(part, "lora_A")]
        kinds = {name.rpartition(".")[2] for name in linear}
        assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, kind
        assert not [name for name, part in model.named_modules() if hasattr(part, "lora_A") and "text" not in name
                    and "language_model" not in name]  # fmt: skip


def test_lora_settings_reach_the_layers(tmp_path: Path) -> None:
    model, processor = build_model(seed=1)
    describe(lora_rank=3, lora_alpha=12, lora_targets=("q_proj",), lora_dropout=0.25).build(
        share(model, processor, tmp_path)
    )
    layers = {name: part for name, part in model.named_modules() if hasattr(part, "lora_A")}
    assert layers and all(name.endswith("q_proj") for name in layers)
    for layer in layers.values():
        assert layer.r["default"] == 3 and layer.scaling["default"] == 4 and layer.lora_dropout["default"].p == 0.25


@pytest.mark.parametrize("unties", [True, False])
def test_tied_embeddings_become_two_matrices_or_stay_tied_in_what_is_saved(unties: bool, tmp_path: Path) -> None:
    model, processor = build_model(seed=1)
    native = model.mllm.native
    native.get_output_embeddings().weight = native.get_input_embeddings().weight
    mllm = copy.deepcopy(model.config.mllm)
    mllm["tie_word_embeddings"] = mllm["text_config"]["tie_word_embeddings"] = True
    model.config = replace(model.config, mllm=mllm)
    native.config.tie_word_embeddings = native.config.get_text_config().tie_word_embeddings = True
    save_checkpoint(model, processor.tokenizer, tmp_path / "start", torch.float32)
    run = SupervisedRun(
        name="r", output="o", stages=(describe(),), start=str(tmp_path / "start"), unties=unties, seg_design="multiple"
    )
    loaded, writer = run.build_model(tmp_path)
    tables = (loaded.mllm.native.get_input_embeddings(), loaded.mllm.native.get_output_embeddings())
    assert (tables[0].weight is not tables[1].weight) == unties
    with torch.no_grad():
        tables[1].weight[0] += 1
    save_checkpoint(loaded, writer.tokenizer, tmp_path / "end", torch.float32)
    again, _ = load_checkpoint(tmp_path / "end", torch.device("cpu"), torch.float32)
    same = torch.equal(
        again.mllm.native.get_input_embeddings().weight, again.mllm.native.get_output_embeddings().weight
    )
    assert same != unties
    assert torch.equal(again.mllm.native.get_output_embeddings().weight, tables[1].weight)


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
    config = describe(datasets=(DatasetShare(name="nowhere", weight=1),))
    with pytest.raises(ValueError, match="dataset 'nowhere' is unknown"):
        config.build(share(*build_model(), tmp_path))


def test_a_run_changes_the_design_of_mask_tokens_of_the_model_that_it_starts_from(tmp_path: Path) -> None:
    model, processor = build_model(seed=1)
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


def test_a_resumed_run_draws_and_counts_on_as_if_it_had_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = describe(steps=7, save_every=2, log_every=1, new_tokens="rows", autocast=False, lora_targets=("q_proj",))

    def train(name: str) -> list[dict]:
        stage = config.build(share(*build_model(seed=1), tmp_path))
        with RunLogger(tmp_path / name, quiet=True) as logger:
            run_stage(stage, tmp_path / name, "cpu", logger)
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        read = ("step", "losses", "counts", "table")
        return [{key: line[key] for key in read if key in line} for line in map(json.loads, lines)]

    whole, collate, calls = train("whole"), SupervisedData.collate, []

    def fail(data: SupervisedData, items: list) -> Batch:
        calls.append(items)
        if len(calls) == 6:
            raise ValueError("stopped")
        return collate(data, items)

    with monkeypatch.context() as patch, pytest.raises(ValueError, match="the batch of step 5 failed: stopped"):
        patch.setattr(SupervisedData, "collate", fail)
        train("parts")
    resumed = train("parts")
    assert [line for line in resumed if "losses" in line] == [line for line in whole if "losses" in line]
    tables = [line["table"] for line in resumed if "table" in line]
    assert tables[-1] == [line["table"] for line in whole if "table" in line][-1]
    assert [sum(row.get("samples", 0) for row in table) for table in tables] == [0, 16, 28]


def test_a_run_whose_data_changed_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = describe(steps=2, new_tokens="rows", lora_targets=("q_proj",))

    def train() -> None:
        stage = config.build(share(*build_model(seed=1), tmp_path))
        with RunLogger(tmp_path, quiet=True) as logger:
            run_stage(stage, tmp_path, "cpu", logger)

    train()
    monkeypatch.setitem(catalog.DATASETS, "texts", partial(Generated, draw_text, 9))
    with pytest.raises(ValueError, match=r"num_records of stage supervised was \[.*\] and is now \(.*, 9\)"):
        train()


@pytest.mark.parametrize("design", SEG_DESIGNS)
def test_every_design_is_trained_saved_and_predicts_a_mask_per_object_and_frame(
    design: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = draw_sample(0, num_frames=4)
    monkeypatch.setitem(catalog.DATASETS, "clip", partial(Generated, lambda index: clip))
    model, processor = build_model(seed=1)
    save_checkpoint(model, processor.tokenizer, tmp_path / "start", torch.float32)
    stage = describe(
        datasets=(DatasetShare(name="clip", weight=1),), steps=32, batch_size=1, num_frames=4, lora_rank=16, lr=1e-2,
        lora_dropout=0.0, autocast=False, save_every=0, weight_decay=0.0, log_every=8,
    )  # fmt: skip
    run = SupervisedRun(
        name="r", output="o", stages=(stage,), start=str(tmp_path / "start"), seg_design=design, device="cpu"
    )  # ty: ignore[invalid-argument-type]
    train_run(run, tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["losses"]["total"] for line in lines if "losses" in line]
    assert losses[-1] < 0.5 * losses[0]
    predictor = sa2va.load(str(tmp_path / "run" / "model"), device="cpu")
    prediction = predictor.predict(clip.frames, clip.turns[0].question, options=Options(max_new_tokens=16))
    assert prediction.text == f"Sure, it is {''.join(SEG_DESIGNS[design].object_tokens(4))}."
    assert prediction.masks.shape == (1, 4, 64, 64)


def test_settings_of_a_run_that_change_its_model_are_saved_with_a_state() -> None:
    config = describe()
    run = SupervisedRun(name="r", output="", start="tiny", stages=(config,))
    for change in ({"seg_design": "repeat"}, {"template": "phi3_chat"}, {"unties": False}, {"start": "other"}):
        assert replace(run, **change).describe_stage(config) != run.describe_stage(config)
