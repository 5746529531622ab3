"""Keep what a model answers to pictures while it learns clips: a copy from before the stage teaches it.

Flow: model at the start of a stage -> Teacher -> KeptAnswers to a batch of pictures -> kept_losses -> LossTerms.
Source: Learning without Forgetting, arXiv:1606.09282, for its loss on words. That on prompts is our own: SAM 2 rests,
    so that the same prompt gives the same mask.
Shapes: B samples, L tokens, R supervised tokens, V words, M mask tokens, C SAM 2 width, D MLLM width.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va.model.batch import Batch
from sa2va.model.losses import LossTerm
from sa2va.model.sa2va import Sa2VA
from sa2va.tokens import IGNORE_INDEX


@dataclass(frozen=True)
class KeptAnswers:
    """Answers of the teacher to a batch."""

    answered: Tensor  # (B, L - 1) bool, columns whose next token is supervised, R in all
    log_chances: Tensor  # (R, V) of the next token
    prompt_embeds: Tensor  # (M, C)


class Teacher:
    """Frozen copy of the language model and of the projector; no module, since it is not saved with the stage."""

    def __init__(self, model: Sa2VA) -> None:
        self.mllm = copy.deepcopy(model.mllm).requires_grad_(False).eval()
        self.projector = copy.deepcopy(model.projector).requires_grad_(False).eval()

    @torch.no_grad()
    def answer(self, batch: Batch, answer_labels: Tensor | None = None) -> KeptAnswers:
        """Answer a batch.

        Args:
            batch: pictures.
            answer_labels: (B, L) further labels, see `Grounding`.
        """
        device = batch.input_ids.device
        self.mllm.to(device)
        self.projector.to(device)
        answered = batch.labels[:, 1:] != IGNORE_INDEX
        if answer_labels is not None:
            answered |= answer_labels[:, 1:] != IGNORE_INDEX
        states, _ = self.mllm.run_text_recorded(self.mllm.embed_inputs(batch, device), ())
        chances = self.mllm.logits(states[:, :-1][answered]).float().log_softmax(-1)
        return KeptAnswers(answered, chances, self.projector(states[batch.seg_positions.unbind(1)]))


def kept_losses(
    kept: KeptAnswers, logits: Tensor, prompt_embeds: Tensor, *, words: float, prompts: float
) -> dict[str, LossTerm]:
    """Compute how far answers are from those of the teacher.

    Args:
        kept: of the teacher.
        logits: (R, V) of the trained model at the same tokens.
        prompt_embeds: (M, C) of the trained model.
        words: weight of "kept_words", the KL divergence from the teacher's words in nats per token.
        prompts: weight of "kept_prompts", the squared distance from the teacher's prompts over their mean square.
    """
    divergence = F.kl_div(logits.float().log_softmax(-1), kept.log_chances, reduction="none", log_target=True).sum(-1)
    wanted = kept.prompt_embeds.float()
    distance = (prompt_embeds.float() - wanted).square().mean(-1) / wanted.square().mean().clamp(min=1e-9)
    return {"kept_words": LossTerm.of(divergence, words), "kept_prompts": LossTerm.of(distance, prompts)}
