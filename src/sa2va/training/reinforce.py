"""Train with verifiable rewards (GRPO): sample answers, score them by rules, raise the probability of the better ones.

Flow: datasets as in supervised training -> Prompts -> rollouts.py -> Sa2VA.forward with PolicyLoss -> LossTerms.
Source: GRPO, DeepSeekMath, arXiv:2402.03300. trl's GRPOTrainer (1.16) does not take this model: it
    needs a PreTrainedModel with `generate`, and its rewards see texts, not the masks of the states behind them.
Shapes: B prompts, G answers of each.
"""

import copy
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sa2va.model.batch import Batch, move
from sa2va.model.losses import LossConfig, LossTerm
from sa2va.model.mllm import Mllm
from sa2va.model.sa2va import Sa2VA
from sa2va.training.policy import Actions, PolicyConfig, PolicyLoss
from sa2va.training.rewards import RewardConfig
from sa2va.training.rollouts import Prompt, Rollout, Sampler, SamplingConfig, roll_out
from sa2va.training.stage import Key, RunContext
from sa2va.training.supervised import (
    ChosenFrames,
    SupervisedConfig,
    SupervisedData,
    SupervisedModule,
    SupervisedStage,
    choose_trained,
    new_token_ids,
    save_memory,
)

NO_LOSS = LossConfig(lm=0.0)


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(SupervisedConfig):
    """Settings of training with rewards. Datasets and trained parts are set as in supervised training.

    The masks of an answer reach its reward through SAM 2, which gets no gradient and stays as it is.
    """

    prompts_per_sample: int = 4  # questions of a sample, at random; 0 = all. Each is asked by itself
    balances: bool = True  # questions with and without masks are equally likely; else rewards favor the usual answer
    updates: int = 1  # updates with the answers of a step, before others are sampled
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    rewards: RewardConfig = field(default_factory=RewardConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    batch_size: int = 8  # samples, not prompts
    lr: float = 1e-5
    weight_decay: float = 0.0
    lora_dropout: float = 0.0  # else answers would be sampled by another policy than the trained one
    new_tokens: Literal["all", "rows", "none"] = "none"
    trains_mask_decoder: bool = False
    frame_jitter: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds: tuple[tuple[str, float, float], ...] = (
            ("prompts_per_sample", 0, math.inf),
            ("updates", 1, 64),
            ("lora_dropout", 0, 0),
        )
        self.check_bounds(bounds)
        if self.trains_mask_decoder or self.halves_frozen:
            raise ValueError(
                f"stage {self.name}: rewards send no gradient to the mask decoder, and answers are sampled in float32; "
                "set trains_mask_decoder=false and halves_frozen=false"
            )
        if self.parallel == "fsdp":
            raise ValueError(f"stage {self.name}: a sharded model cannot sample answers; set parallel=ddp")

    def build(self, context: RunContext) -> "ReinforceStage":
        return ReinforceStage(self, context)


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of one process and forward pass."""

    prompts: tuple[Prompt, ...]
    keys: tuple[Key, ...]  # of their samples, the same in each update with their answers
    counts: Mapping[str, int]


class ReinforceData(SupervisedData):
    """Data of the stage: the questions of the samples of a mixture."""

    config: ReinforceConfig

    def keys(self, step: int) -> list[Key]:
        return self.order.keys(step // self.config.updates)

    def collate(self, items: Sequence[ChosenFrames]) -> PromptBatch:  # ty: ignore[incompatible-method-override]
        prompts = [prompt for item in items for prompt in self.read_prompts(item)]
        keys = tuple((item.dataset, item.seed) for item in items)
        return PromptBatch(tuple(prompts), keys, Counter(item.dataset for item in items))

    def read_prompts(self, item: ChosenFrames) -> list[Prompt]:
        """Return questions of a sample, at random, each with the masks of its true answer on the key frames.

        Raises:
            ValueError: the sample has no medium or several, or no supervised answer.
        """
        sample, rng = item.sample, np.random.default_rng([self.config.seed, item.seed])
        if len(sample.media) != 1:
            raise ValueError(f"{item.name}: rewards need one picture or clip, got {len(sample.media)}; leave it out")
        turns = [turn for turn in sample.turns if turn.supervised]
        turns = turns[:1] if sample.turns[0].regions else turns  # later turns may ask about regions of the first
        if not turns:
            raise ValueError(f"{item.name}: no answer is supervised; leave the dataset out")
        number = min(len(turns), self.config.prompts_per_sample or len(turns))
        frames = sample.media[0].frames(item.keyframes)
        prompts = []
        shares = _balance([bool(turn.spans) for turn in turns]) if self.config.balances else None
        for place in sorted(rng.choice(len(turns), number, replace=False, p=shares).tolist()):
            objects = [index for span in turns[place].spans for index in span.objects]
            masks = sample.tracks.masks(objects, item.keyframes) if objects else np.zeros((0, *frames.shape[:3]), bool)
            prompts.append(Prompt(frames, turns[place], masks, int(rng.integers(2**31))))
        return prompts


def _balance(has_masks: Sequence[bool]) -> NDArray[np.float64]:
    """Return a probability for each turn, with the same sum over those with and without masks, if there are both."""
    shares = np.array([1 / list(has_masks).count(one) for one in has_masks])
    return shares / shares.sum()


class ReinforceModule(SupervisedModule):
    """Sa2VA with the policy loss of its own answers."""

    def __init__(self, model: Sa2VA, config: ReinforceConfig, sampler: Sampler, reference: Mllm | None) -> None:
        super().__init__(model, NO_LOSS)
        self.config, self.sampler = config, sampler
        self._reference = (reference,)  # in a tuple, so that it is no part of the module and of its states
        self._rollouts: dict[tuple[Key, ...], tuple[Rollout, PolicyLoss]] = {}

    def forward(self, batch: PromptBatch) -> dict[str, LossTerm]:  # ty: ignore[incompatible-method-override]
        rollout, policy = self._find(batch)
        terms = self.model(rollout.batch, self.losses, auxiliary=policy)
        del terms["lm"]
        return terms | _figures(rollout)

    def count_rows(self, batch: PromptBatch) -> dict[str, float]:  # ty: ignore[incompatible-method-override]
        """Count the prompts of a batch: which of their answers differ is unknown before they are sampled."""
        return dict.fromkeys(("policy", "seg_policy", "kl"), len(batch.prompts))

    def _find(self, batch: PromptBatch) -> tuple[Rollout, PolicyLoss]:
        """Return the answers to the prompts of a batch, sampled in its first update."""
        if batch.keys not in self._rollouts:
            if len(self._rollouts) >= self.config.accumulate:
                self._rollouts.clear()
            policy, device = self.config.policy, self.sampler.engine.device
            found = roll_out(self.sampler, batch.prompts, self.config.rewards, policy.least_spread)
            found = replace(found, batch=move(found.batch, device), actions=move(found.actions, device))
            actions = self._with_reference(found.batch, found.actions)
            self._rollouts[batch.keys] = found, PolicyLoss(actions, policy, self.model.mllm.logits)
        return self._rollouts[batch.keys]

    @torch.no_grad()
    def _with_reference(self, batch: Batch, actions: Actions) -> Actions:
        (mllm,) = self._reference
        if mllm is None:
            return actions
        states = mllm.run_packed(mllm.embed_inputs(batch))
        return replace(actions, reference=actions.log_probs(states, mllm.logits))


def _figures(rollout: Rollout) -> dict[str, LossTerm]:
    """Return the mean rewards and the share of prompts with different rewards, as terms of weight 0 for the log."""
    rows = {"reward": rollout.rewards, "informative": torch.zeros(len(rollout.rewards))}
    rows["informative"][: rollout.num_kept] = 1
    rows |= {f"reward_{name}": torch.tensor(rollout.scores.get(name, [])) for name in REWARDS}
    device = rollout.batch.input_ids.device
    return {name: LossTerm.of(values.to(device), 0.0) for name, values in rows.items()}


REWARDS = tuple(RewardConfig.__dataclass_fields__)


class ReinforceStage(SupervisedStage):
    """Stage of training with rewards; parameters that the config does not select are frozen."""

    def __init__(self, config: ReinforceConfig, context: RunContext) -> None:
        model, processor = context.model, context.processor
        self.data = ReinforceData(config, processor)
        self.config = self.data.config
        # A resumed run builds its stages from the start model, before it loads the weights of its state.
        reference = copy.deepcopy(model.mllm).requires_grad_(False).eval() if config.policy.kl else None
        choose_trained(model, config, new_token_ids(processor))
        model.projector.requires_grad_(False)  # it maps states to masks, and no action comes after it
        save_memory(model, config, context.device)
        sampler = Sampler(model, processor, config.sampling, config.policy.noise)
        self.module = ReinforceModule(model, self.data.config, sampler, reference)
