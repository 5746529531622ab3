"""Sample answers to prompts as a prediction does, score them, and pack them into a batch for the policy loss.

Flow: Prompts -> engine.py (prefill once, G sampled answers, masks) -> rewards.py -> advantages -> Batch with a branch
    for each answer, and Actions -> reinforce.py.
Shapes: B prompts, G answers of each, K frames of a prompt, L tokens of a row, A tokens of answers, M mask tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from sa2va.inference.engine import Engine
from sa2va.inference.query import Query
from sa2va.inference.requests import Options, Request
from sa2va.inference.results import Prediction
from sa2va.model.batch import Batch
from sa2va.model.branches import PADDING
from sa2va.model.mask_rows import MaskRows
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.torch_defaults import plain_inference
from sa2va.tokens import IGNORE_INDEX
from sa2va.training.policy import Actions, normalize_groups
from sa2va.training.rewards import RewardConfig, Sampled, Truth, score_answer
from sa2va.types import Frames, Masks, Turn


@dataclass(frozen=True)
class Prompt:
    """One question about a picture or the key frames of a clip, with its true answer."""

    frames: Frames  # (K, H, W, 3)
    turn: Turn
    masks: Masks  # (M, K, H, W), of the objects of the true answer
    seed: int

    @property
    def truth(self) -> Truth:
        return Truth(self.turn.answer, self.masks)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Settings of the sampled answers."""

    answers: int = 8  # G, answers sampled for each prompt
    temperature: float = 1.0
    max_new_tokens: int = 48

    def __post_init__(self) -> None:
        if self.answers < 2:
            raise ValueError(f"sampling: answers is {self.answers}; expected 2 or more, which are compared")
        if not self.temperature > 0:
            raise ValueError(f"sampling: temperature is {self.temperature}; expected more than 0, else all are equal")
        Options(max_new_tokens=self.max_new_tokens, temperature=self.temperature)


@dataclass(frozen=True)
class Answer:
    """One sampled answer."""

    token_ids: list[int]  # the end token included, see `cut_after`
    seg_states: Tensor  # (m, D) states at its mask tokens, with their noise
    deviations: Tensor  # (m,) standard deviation of the noise; 0 = none
    sampled: Sampled


@dataclass(frozen=True)
class Rollout:
    """Scored answers to the prompts of a batch; those of groups with different rewards are packed for training."""

    batch: Batch
    actions: Actions
    rewards: Tensor  # (B, G)
    scores: dict[str, list[float]]  # of all answers they apply to, by name of the reward
    num_kept: int  # prompts whose answers are packed with an advantage


class Sampler:
    """Sampler of answers, with the steps of a prediction."""

    def __init__(self, model: Sa2VA, processor: Processor, config: SamplingConfig, noise: float) -> None:
        training = model.training
        self.engine = Engine(model, processor)
        model.train(training)
        self.config, self.noise = config, noise

    @plain_inference()
    def sample(self, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """Sample G answers to each prompt and decode their masks.

        A model with dropout samples without it. Numbers are float32, as in a prediction.
        """
        model = self.engine.model
        was_training = model.training
        model.eval()
        try:
            with torch.autocast(self.engine.device.type, enabled=False):
                return self._sample(prompts)
        finally:
            model.train(was_training)

    def _sample(self, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        config, engine = self.config, self.engine
        queries = [engine.open(_to_request(prompt), self._options(prompt)) for prompt in prompts]
        stream, last = engine.prefill(queries)
        rows = torch.arange(len(prompts)).repeat_interleave(config.answers)
        stream.keep_rows(rows)
        seeds = [derive_seed(prompt.seed, number) for prompt in prompts for number in range(config.answers)]
        asked = [queries[row] for row in rows.tolist()]
        options = [replace(query.options, seed=seed) for query, seed in zip(asked, seeds, strict=True)]
        decoding = engine.decode(stream, last[rows.to(last.device)], options).finish()
        noised = [self._add_noise(states, seed) for states, seed in zip(decoding.seg_states, seeds, strict=True)]
        decoding.seg_states[:] = [list(states) for states, _ in noised]
        grounded = [
            engine.read_answer(decoding, row, one, len(query.keyframes))
            for row, (one, query) in enumerate(zip(options, asked, strict=True))
        ]
        found = [_unwrap(one) for one in engine.decode_masks(asked, grounded)]
        answers = []
        for row, (prediction, query) in enumerate(zip(found, asked, strict=True)):
            ids = decoding.token_ids[row]
            ended = len(ids) < config.max_new_tokens or decoding.said_end[row]
            text = engine.processor.decode(ids)
            end = engine.processor.encode_end()[:1] if ended and not decoding.said_end[row] else []
            sampled = Sampled(text, _stack_masks(prediction, query), ended)
            kept = cut_after([*ids, *end], engine.processor.image_id)
            num_segs = sum(token in engine.processor.seg_tokens for token in kept)
            answers.append(Answer(kept, *(values[:num_segs] for values in noised[row]), sampled))
        return [answers[first : first + config.answers] for first in range(0, len(answers), config.answers)]

    def _options(self, prompt: Prompt) -> Options:
        config = self.config
        return Options(
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            num_keyframes=len(prompt.frames),
            keyframes="uniform",
            mode="official",
        )

    def _add_noise(self, states: Sequence[Tensor], seed: int) -> tuple[Tensor, Tensor]:
        """Stack the states (m, D) of an answer and add Gaussian noise; return them with its deviations (m,)."""
        if not states:
            nothing = torch.zeros(0, self.engine.model.mllm.width, device=self.engine.device)
            return nothing, nothing[:, 0]
        means = torch.stack(list(states))
        deviations = self.noise * means.square().mean(-1).sqrt()
        generator = torch.Generator("cpu").manual_seed(seed)  # the same noise on every device
        noise = torch.randn(means.shape, generator=generator).to(means)
        return means + deviations[:, None] * noise, deviations


def cut_after(token_ids: list[int], image_id: int) -> list[int]:
    """Cut an answer after its first image token, which a batch cannot embed: it is trained as the last prediction."""
    return token_ids[: token_ids.index(image_id) + 1] if image_id in token_ids else token_ids


def _to_request(prompt: Prompt) -> Request:
    frames = prompt.frames if len(prompt.frames) > 1 else prompt.frames[0]
    return Request(frames, prompt.turn.question, np.stack(prompt.turn.regions) if prompt.turn.regions else None)


def derive_seed(*numbers: int) -> int:
    """Derive the seed of an answer from that of its prompt and its place in the group."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _unwrap(found: Prediction | Exception) -> Prediction:
    if isinstance(found, Exception):
        raise found
    return found


def _stack_masks(prediction: Prediction, query: Query) -> Masks:
    size = query.media.height, query.media.width
    masks = [found.masks for found in prediction.objects]
    return np.stack(masks) if masks else np.zeros((0, len(query.keyframes), *size), bool)


def roll_out(sampler: Sampler, prompts: Sequence[Prompt], rewards: RewardConfig, least_spread: float) -> Rollout:
    """Sample and score answers, and pack those of the groups whose rewards differ.

    Args:
        sampler: of the model.
        prompts: B of them.
        rewards: weights of the rewards.
        least_spread: see `normalize_groups`. If no group reaches it, the first is packed, but does not count.
    """
    answers = sampler.sample(prompts)
    scored = [
        [score_answer(answer.sampled, prompt.truth) for answer in group]
        for prompt, group in zip(prompts, answers, strict=True)
    ]
    totals = torch.tensor([[rewards.total(scores) for scores in group] for group in scored])
    advantages, kept = normalize_groups(totals, least_spread)
    rows = kept.nonzero().flatten().tolist() or [0]
    batch, actions = pack_answers(
        sampler.engine.processor, [prompts[row] for row in rows], [answers[row] for row in rows], advantages[rows],
        temperature=sampler.config.temperature, has_noise=sampler.noise > 0,
    )  # fmt: skip
    actions = replace(actions, counts=float(kept.any()))
    by_name: dict[str, list[float]] = {}
    for scores in (scores for group in scored for scores in group):
        for name, score in scores.items():
            by_name.setdefault(name, []).append(score)
    return Rollout(batch, actions, totals, by_name, int(kept.sum()))


@dataclass
class _Packed:
    """Rows under construction, one for each prompt, and where they have the tokens of its answers."""

    image_id: int
    pad_id: int
    rows: list[tuple[list[int], list[int]]] = field(default_factory=list)  # token ids and visual index
    branches: list[list[int]] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)  # of the states that predict the tokens
    token_ids: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    seg_places: list[tuple[int, int]] = field(default_factory=list)
    seg_owners: list[int] = field(default_factory=list)
    num_answers: int = 0

    def add(self, question: list[int], visual_index: list[int], answers: Sequence[list[int]], segs: set[int]) -> None:
        """Append a row: a question and its answers, each blind to the others; `segs` are the ids of mask tokens."""
        row, ids, branch = len(self.rows), list(question), [0] * len(question)
        for number, answer in enumerate(answers, start=1):
            begin = len(ids)
            columns = range(begin, begin + len(answer))
            self.places += [(row, column - 1 if column > begin else len(question) - 1) for column in columns]
            seg_columns = [column for column, token in zip(columns, answer, strict=True) if token in segs]
            self.seg_places += [(row, column) for column in seg_columns]
            self.seg_owners += [self.num_answers] * len(seg_columns)
            self.token_ids += answer
            self.owners += [self.num_answers] * len(answer)
            self.num_answers += 1
            ids += [self.pad_id if token == self.image_id else token for token in answer]  # it is a last token
            branch += [number] * len(answer)
        self.rows.append((ids, visual_index))
        self.branches.append(branch)


def pack_answers(
    processor: Processor,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[Answer]],
    advantages: Tensor,
    *,
    temperature: float,
    has_noise: bool,
) -> tuple[Batch, Actions]:
    """Build a batch with a row for each prompt and a branch for each of its answers.

    Args:
        processor: of the model.
        prompts: B of them.
        answers: B groups of G.
        advantages: (B, G).
        temperature: of the sampling.
        has_noise: whether the states at mask tokens were sampled as well.

    Returns:
        The batch, without labels or masks to decode, and what was sampled.
    """
    pictures = [processor.read_pictures(prompt.frames) for prompt in prompts]
    packed = _Packed(processor.image_id, processor.pad_id)
    for prompt, group, own in zip(prompts, answers, pictures, strict=True):
        question = processor.encode_question(prompt.turn, [picture.num_tokens for picture in own])
        packed.add(*question, [answer.token_ids for answer in group], set(processor.seg_tokens))
    tensors = processor.collate(packed.rows, pictures, left=False)
    batch = Batch(
        **tensors,
        **MaskRows(processor.design, None).tensors(),
        branches=processor.pad(packed.branches, PADDING, left=False),
        labels=torch.full_like(tensors["input_ids"], IGNORE_INDEX),
        sam_pixel_values=torch.zeros(0),
        seg_positions=torch.tensor(packed.seg_places, dtype=torch.long).reshape(-1, 2),
    )
    flat = [answer for group in answers for answer in group]
    states = torch.cat([answer.seg_states for answer in flat])
    return batch, Actions(
        places=torch.tensor(packed.places, dtype=torch.long).reshape(-1, 2),
        token_ids=torch.tensor(packed.token_ids, dtype=torch.long),
        owners=torch.tensor(packed.owners, dtype=torch.long),
        advantages=advantages.flatten(),
        temperature=temperature,
        states=states if has_noise else states[:0],
        deviations=torch.cat([answer.deviations for answer in flat]) if has_noise else states[:0, 0],
        seg_owners=torch.tensor(packed.seg_owners, dtype=torch.long),
    )
