"""Compute the policy loss of sampled answers: group-normalized advantages, clipped ratios, KL divergence.

Flow: rewards (B, G) -> normalize_groups -> Actions; Sa2VA.forward -> ForwardView -> PolicyLoss -> LossTerms.
Source: GRPO, DeepSeekMath, arXiv:2402.03300, equation 3, with its estimator of the KL divergence. Groups of nearly
    equal rewards are left out, as in DAPO, arXiv:2503.14476. The Gaussian policy on [SEG] states is our own. Its ratio
    is that of the mean log-density over D, as GSPO, arXiv:2507.18071, takes the mean over tokens.
Shapes: B prompts, G answers of each, N answers in the loss, A tokens of these, M mask tokens, D MLLM width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sa2va.model.auxiliary import ForwardView
from sa2va.model.losses import LossTerm


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Settings of the policy loss."""

    clip: float = 0.2  # ratios count within 1 - clip .. 1 + clip
    kl: float = 0.02  # weight of the KL divergence from the start model; 0 = off, which also saves its memory
    least_spread: float = 0.02  # a group whose rewards have a smaller standard deviation is left out
    noise: float = 0.0  # standard deviation of the noise on [SEG] states, relative to their RMS; 0 = no such policy
    noise_weight: float = 1.0  # weight of the loss of that policy beside that of the tokens

    def __post_init__(self) -> None:
        bounds = {"clip": (1e-6, 1), "kl": (0, math.inf), "least_spread": (1e-6, 1), "noise": (0, 10),
                  "noise_weight": (0, math.inf)}  # fmt: skip
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"policy: {name} is {getattr(self, name)}; expected {low} to {high}")


def normalize_groups(rewards: Tensor, least_spread: float) -> tuple[Tensor, Tensor]:
    """Normalize the rewards of each prompt's answers to mean 0 and standard deviation 1.

    Args:
        rewards: (B, G).
        least_spread: standard deviation below which all advantages of a group are 0.

    Returns:
        Advantages (B, G), and whether a group has any (B,).
    """
    centered = rewards - rewards.mean(1, keepdim=True)
    spread = centered.square().mean(1, keepdim=True).sqrt()
    kept = spread >= least_spread
    return torch.where(kept, centered / spread.clamp(min=least_spread), 0), kept[:, 0]


def clipped_loss(ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Compute the negative clipped surrogate of PPO, elementwise."""
    return -torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages)


def kl_estimate(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Estimate the KL divergence from a reference without bias, elementwise; never negative, 0 where they agree."""
    difference = reference - log_probs
    return difference.exp() - difference - 1


@dataclass(frozen=True, kw_only=True)
class Actions:
    """What was sampled, and where a forward pass finds its probabilities."""

    places: Tensor  # (A, 2) row and column of the state that predicts each token
    token_ids: Tensor  # (A,)
    owners: Tensor  # (A,) answer of each token
    advantages: Tensor  # (N,) of the answers
    temperature: float  # of the sampling
    states: Tensor  # (M, D) [SEG] states as sampled; (0, D) without noise
    deviations: Tensor  # (M,) standard deviation of their noise
    seg_owners: Tensor  # (M,) answer of each mask token
    counts: float = 1.0  # count of each answer in the means; 0 = packed only so that there is a forward pass
    reference: Tensor | None = None  # (A,) log-probabilities of the tokens by the start model

    def log_probs(self, hidden_states: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the log-probabilities (A,) of the tokens: (B, L, D) states, `Mllm.logits`."""
        scores = logits(hidden_states[self.places[:, 0], self.places[:, 1]]).float() / self.temperature
        return scores.log_softmax(-1).gather(1, self.token_ids[:, None])[:, 0]

    def log_densities(self, seg_states: Tensor) -> Tensor:
        """Return the log-density of each sampled state, up to a constant, as mean over D: (M, D) -> (M,)."""
        return -(self.states - seg_states.float()).square().mean(-1) / (2 * self.deviations.square())

    def per_answer(self, values: Tensor, owners: Tensor) -> LossTerm:
        """Average values over each answer, then sum over the answers."""
        number = torch.bincount(owners, minlength=len(self.advantages))
        return LossTerm((values / number[owners]).sum() * self.counts, len(self.advantages) * self.counts)


@dataclass
class PolicyLoss:
    """Auxiliary loss of sampled answers. The first call fixes the probabilities that later ratios refer to."""

    actions: Actions
    config: PolicyConfig
    logits: Callable[[Tensor], Tensor]
    old: tuple[Tensor, Tensor] | None = None  # log-probabilities (A,) and log-densities (M,) when they were sampled
    attention_layers: tuple[int, ...] = ()

    def __call__(self, view: ForwardView) -> dict[str, LossTerm]:
        actions, config = self.actions, self.config
        log_probs = actions.log_probs(view.hidden_states, self.logits)
        # Terms follow from the settings alone: all processes of a step must have the same.
        densities = actions.log_densities(view.seg_states) if config.noise else log_probs.new_zeros(0)
        if self.old is None:
            self.old = log_probs.detach(), densities.detach()
        ratios = (log_probs - self.old[0]).exp()
        terms = {"policy": self._clipped(ratios, actions.owners)}
        if config.noise:
            term = self._clipped((densities - self.old[1]).exp(), actions.seg_owners)
            terms["seg_policy"] = LossTerm(term.total, term.count, config.noise_weight)
        if actions.reference is not None:
            divergence = actions.per_answer(kl_estimate(log_probs, actions.reference), actions.owners)
            terms["kl"] = LossTerm(divergence.total, divergence.count, config.kl)
        return terms

    def _clipped(self, ratios: Tensor, owners: Tensor) -> LossTerm:
        return self.actions.per_answer(clipped_loss(ratios, self.actions.advantages[owners], self.config.clip), owners)
