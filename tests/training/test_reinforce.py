"""Check that sampled answers are predictions, that the policy loss sees their probabilities, and that a run resumes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.own_pictures import write_squares
from support.small_families import build_family
from support.small_model import build_model, draw_sample
from support.small_rewards import QUESTION, SAMPLING, build_rewards, describe, register

from sa2va.checkpoints.folder import load_checkpoint, save_checkpoint
from sa2va.data import catalog
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Options, Request
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.config import apply_overrides
from sa2va.training.logger import RunLogger
from sa2va.training.mixture import DatasetShare
from sa2va.training.plan import plan_run
from sa2va.training.policy import PolicyConfig, PolicyLoss
from sa2va.training.recipes import find_recipe
from sa2va.training.reinforce import ReinforceData, ReinforceStage
from sa2va.training.rewards import RewardConfig, Sampled
from sa2va.training.rollouts import (
    Answer,
    Prompt,
    Sampler,
    SamplingConfig,
    cut_after,
    derive_seed,
    pack_answers,
    roll_out,
)
from sa2va.training.run import train_run
from sa2va.training.supervised import ChosenFrames
from sa2va.training.trainer import run_stage
from sa2va.types import Sample, Turn


@pytest.fixture(autouse=True)
def datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "DATASETS", dict(catalog.DATASETS))
    register()


def ask(sample: Sample, seed: int = 5) -> Prompt:
    return Prompt(sample.frames, sample.turns[0], sample.masks, seed)


def write(answer: str, processor: Processor, width: int) -> Answer:
    """Build an answer of given tokens, without masks."""
    ids, _ = processor.encode_answer(Turn(question="", answer=answer))
    seg = processor.seg_id
    ids = [*ids[:2], seg, *ids[2:], *processor.encode_end()]
    nothing = torch.zeros(1, width)
    return Answer(ids, nothing, nothing[:, 0], Sampled(answer, np.zeros((0, 1, 64, 64), bool), has_ended=True))


@pytest.mark.parametrize("num_frames", [1, 2])
def test_sampled_answers_are_those_of_a_prediction(num_frames: int) -> None:
    model, processor = build_model(seed=1)
    prompts = [ask(draw_sample(1, num_frames)), ask(draw_sample(2, num_frames), seed=6)]
    groups = Sampler(model, processor, SAMPLING, noise=0.0).sample(prompts)
    assert groups[0][0].token_ids == Sampler(model, processor, SAMPLING, noise=0.0).sample(prompts)[0][0].token_ids
    texts = {answer.sampled.text for group in groups for answer in group}
    assert len(groups) == 2 and all(len(group) == 3 for group in groups) and len(texts) > 3
    predictor = Predictor(model, processor)
    for prompt, group in zip(prompts, groups, strict=True):
        for number, answer in enumerate(group):
            options = Options(
                max_new_tokens=6, temperature=1.5, seed=derive_seed(prompt.seed, number), num_keyframes=num_frames
            )
            media = prompt.frames if num_frames > 1 else prompt.frames[0]
            found = predictor.predict_batch([Request(media, prompt.turn.question)], options)[0]
            assert found.text == answer.sampled.text.strip()
            assert len(found.objects) == len(answer.sampled.masks)
            for one, mask in zip(found.objects, answer.sampled.masks, strict=True):
                assert (one.masks != mask).mean() < 0.01  # another batch changes the last bits


@pytest.mark.parametrize("kind", ["embedded", "qwen3_vl", "internvl_internlm2"])
def test_branches_give_the_probabilities_and_states_of_answers_alone(kind: str) -> None:
    model, processor = build_model(seed=1) if kind == "embedded" else build_family(kind)
    model.eval()
    prompts = [ask(draw_sample(1)), ask(draw_sample(2))]
    texts = [["It is small.", "Sure"], ["There is no square.", "It is the red circle left of it."]]
    answers = [[write(text, processor, model.mllm.width) for text in group] for group in texts]
    batch, actions = pack_answers(processor, prompts, answers, torch.zeros(2, 2), temperature=2.0, has_noise=True)
    with torch.no_grad():
        states = model.mllm.run_text(model.encode(batch))
        found = actions.log_probs(states, model.mllm.logits)
        seg_states = model.gather_seg_states(states, batch)
    assert batch.branches is not None and len(batch.input_ids) == 2 and actions.seg_owners.tolist() == [0, 1, 2, 3]
    done = 0
    for number, (prompt, answer) in enumerate((p, a) for p, g in zip(prompts, answers, strict=True) for a in g):
        with torch.no_grad():
            stream, last = Sampler(model, processor, SAMPLING, 0.0).engine.prefill(
                [Sampler(model, processor, SAMPLING, 0.0).engine.open(Request(prompt.frames[0], prompt.turn.question))]
            )
            alone = stream.append(model.mllm.embed_text(answer.token_ids, torch.device("cpu")))[0]
            logits = model.mllm.logits(torch.cat([last, alone[:-1]])) / 2.0
            wanted = logits.log_softmax(-1).gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        size = len(answer.token_ids)
        torch.testing.assert_close(found[done : done + size], wanted, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(seg_states[number], alone[2], atol=2e-3, rtol=1e-2)
        done += size
    assert done == len(found)


def test_an_answer_is_trained_up_to_an_image_token() -> None:
    model, processor = build_model(seed=1)
    image = processor.image_id
    assert cut_after([5, image, 6, image], image) == [5, image] and cut_after([5, 6], image) == [5, 6]
    answers = [replace(write("It is small.", processor, 64), token_ids=[5, image]), write("Sure", processor, 64)]
    batch, actions = pack_answers(
        processor, [ask(draw_sample(1))], [answers], torch.zeros(1, 2), temperature=1.0, has_noise=False
    )
    with torch.no_grad():
        found = actions.log_probs(model.mllm.run_text(model.encode(batch)), model.mllm.logits)
    assert found.isfinite().all() and image in actions.token_ids


def test_equal_rewards_give_a_batch_without_advantages() -> None:
    model, processor = build_model(seed=1)
    only_format = RewardConfig(mask=0, presence=0, number=0, words=0)
    found = roll_out(Sampler(model, processor, SAMPLING, 0.0), [ask(draw_sample(1))] * 2, only_format, 0.5)
    assert found.num_kept == 0 and not found.actions.advantages.any() and len(found.batch.input_ids) == 1
    assert set(found.scores) == {"mask", "presence", "number", "format"} and found.rewards.shape == (2, 3)


def test_noise_is_that_of_the_seed_and_its_density_is_highest_at_the_mean() -> None:
    model, processor = build_model(seed=1)
    sampler = Sampler(model, processor, SAMPLING, noise=0.1)
    states = [torch.full((64,), 2.0)]
    noised, deviations = sampler._add_noise(states, 3)
    assert torch.equal(noised, sampler._add_noise(states, 3)[0])
    assert not torch.equal(noised, sampler._add_noise(states, 4)[0])
    assert deviations.item() == pytest.approx(0.2) and (noised - 2).std().item() == pytest.approx(0.2, rel=0.4)


def read_rewards(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if "losses" in line]


def run(stage: ReinforceStage, folder: Path) -> Sa2VA:
    with RunLogger(folder, quiet=True, tensorboard=False) as logger:
        run_stage(stage, folder, "cpu", logger)
    return stage.module.model


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_run_trains_the_language_model_alone_and_resumes(
    noise: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"policy": PolicyConfig(least_spread=1e-4, noise=noise)}
    stage = build_rewards(tmp_path / "whole", **more)
    before = {name: value.clone() for name, value in stage.module.model.state_dict().items()}
    whole = run(stage, tmp_path / "whole").state_dict()
    changed = {name for name, value in whole.items() if not torch.equal(value, before[name])}
    assert changed and all("language_model" in name or "vision_projector" in name or "mlp1" in name
                           or "multi_modal_projector" in name for name in changed), changed  # fmt: skip
    losses = read_rewards(tmp_path / "whole")
    assert len(losses) == 3 and {"policy", "kl", "reward", "reward_format", "informative"} <= set(losses[0])
    assert losses[0]["kl"] == pytest.approx(0, abs=1e-5) and any(each.get("kl", 0) > 0 for each in losses)
    batch = stage.data.collate([stage.data[key] for key in stage.data.keys(0)])
    assert ("seg_policy" in stage.module(batch)) is bool(noise)  # whether or not a mask token was sampled

    broken = build_rewards(tmp_path / "parts", **more)
    keys = broken.data.keys
    monkeypatch.setattr(broken.data, "keys", lambda step: keys(step) if step < 2 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(broken, tmp_path / "parts")
    parts = run(build_rewards(tmp_path / "parts", **more), tmp_path / "parts").state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value)


def test_several_updates_use_the_same_answers_and_ratios_leave_1(tmp_path: Path) -> None:
    stage = build_rewards(tmp_path, updates=2, policy=PolicyConfig(kl=0, least_spread=1e-4))
    data = stage.data
    assert data.keys(0) == data.keys(1) != data.keys(2)
    batch = data.collate([data[key] for key in data.keys(0)])
    first = stage.module(batch)
    policies: list[PolicyLoss] = [policy for _, policy in stage.module._rollouts.values()]
    first["policy"].mean.backward()
    with torch.no_grad():
        for parameter in stage.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    second = stage.module(batch)
    assert [policy for _, policy in stage.module._rollouts.values()] == policies
    assert first["policy"].mean.item() == pytest.approx(0, abs=1e-5)
    assert second["policy"].mean.item() < -1e-4  # better answers are more likely now
    assert "kl" not in second


def test_sampling_within_autocast_leaves_gradients_and_agrees_with_the_reference(tmp_path: Path) -> None:
    stage = build_rewards(tmp_path)
    batch = stage.data.collate([stage.data[key] for key in stage.data.keys(0)])
    with torch.autocast("cpu", torch.bfloat16):  # weights that were cast without gradients must not be reused
        terms = stage.module(batch)
    assert terms["kl"].mean.item() == pytest.approx(0, abs=1e-3) and terms["policy"].count
    terms["policy"].mean.backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in stage.parameters())


def test_questions_of_a_sample_are_asked_by_themselves() -> None:
    _, processor = build_model()
    data = ReinforceData(describe(prompts_per_sample=0), processor)
    prompts = data.read_prompts(data[data.keys(0)[0]])
    assert [prompt.turn.question for prompt in prompts][1] == QUESTION.question and len(prompts) == 2
    assert [len(prompt.masks) for prompt in prompts] == [1, 0]
    one = ReinforceData(describe(), processor)
    asked = {one.read_prompts(one[key])[0].turn.question for step in range(3) for key in one.keys(step)}
    assert QUESTION.question in asked and len(asked) >= 2
    clips = ReinforceData(describe(datasets=(DatasetShare(name="asked_clips", weight=1),), num_frames=2), processor)
    assert clips.read_prompts(clips[clips.keys(0)[0]])[0].frames.shape[0] == 2


def test_questions_with_and_without_masks_are_asked_as_often() -> None:
    _, processor = build_model()
    sample = draw_sample(1)
    sample = replace(sample, turns=(*sample.turns * 5, QUESTION))
    counts = {}
    for balances in (True, False):
        data = ReinforceData(describe(balances=balances), processor)
        asked = [data.read_prompts(ChosenFrames(sample, [0], seed, "", ""))[0].turn for seed in range(120)]
        counts[balances] = sum(turn is QUESTION for turn in asked)
    assert 45 <= counts[True] <= 75 and 8 <= counts[False] <= 32


def test_a_sample_without_a_picture_is_refused_by_name() -> None:
    _, processor = build_model()
    data = ReinforceData(describe(), processor)
    text = ChosenFrames(Sample(turns=(QUESTION,)), [], 0, "drawn texts", "dataset texts, item 3")
    with pytest.raises(ValueError, match=r"dataset texts, item 3: rewards need one picture or clip, got 0; leave"):
        data.read_prompts(text)
    silent = replace(draw_sample(1), turns=(replace(QUESTION, supervised=False),))
    with pytest.raises(ValueError, match=r"item 4: no answer is supervised"):
        data.read_prompts(ChosenFrames(silent, [0], 0, "", "item 4"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trains_mask_decoder": True}, "rewards send no gradient to the mask decoder"),
        ({"halves_frozen": True}, "answers are sampled in float32"),
        ({"parallel": "fsdp"}, "a sharded model cannot sample answers; set parallel=ddp"),
        ({"lora_dropout": 0.1}, "lora_dropout is 0.1; expected 0 to 0"),
        ({"updates": 0}, "updates is 0; expected 1 to 64"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe(**settings)
    for sampling, text in (({"answers": 1}, "expected 2 or more"), ({"temperature": 0.0}, "expected more than 0")):
        with pytest.raises(ValueError, match=text):
            SamplingConfig(**sampling)


def test_the_recipe_trains_on_own_data_and_saves_a_model(tmp_path: Path) -> None:
    model, processor = build_model(seed=1)
    save_checkpoint(model, processor.tokenizer, tmp_path / "start", torch.float32)
    folder = write_squares(tmp_path / "photos", number=3)
    words = [f"start={tmp_path / 'start'}", f"datasets=own:path={folder}:repeats=1", "device=cpu"]
    words += ["steps=1", "batch_size=2", "lora_rank=2", "num_workers=0", "autocast=false", "sampling.answers=2"]
    config = apply_overrides(find_recipe("rewards")(), [*words, "sampling.max_new_tokens=4"])
    train_run(config, tmp_path / "run", quiet=True)
    assert read_rewards(tmp_path / "run")[0]["reward"] >= 0
    assert load_checkpoint(tmp_path / "run" / "model", torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match="recipe rewards: a dry run describes supervised training alone"):
        plan_run(config)
