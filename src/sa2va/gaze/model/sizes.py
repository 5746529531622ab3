"""Estimate the event decoder's distribution of pack sizes, each given a person's earlier packs.

Flow: a recorded scanpath -> for each pack, the tokens before it -> R rollouts of that pack -> sizes.
Source: our own. Sizes of clocked packs have no closed form, so they are estimated by Monte Carlo.
Shapes: R rollouts per pack, P = N + 2 packs, T tokens, F facts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2va.gaze.metrics.sizes import NUM_CLASSES
from sa2va.gaze.model.decoder import EventDecoder, StepPrediction
from sa2va.gaze.model.events import FACT, MIN_GAP, EventBatch, EventHistory, Word
from sa2va.gaze.model.features import Belief
from sa2va.gaze.model.losses import TokenTerms
from sa2va.gaze.model.rollout import Rollout
from sa2va.gaze.scanpath import Scanpath


def sample_sizes(
    decoder: EventDecoder,
    path: Scanpath,
    words: Sequence[Word],
    batch: EventBatch,
    terms: TokenTerms,
    *,
    num_rollouts: int = 64,
    seed: int = 0,
    image_maps: Tensor | None = None,
) -> NDArray[np.int64]:
    """Sample the size of each pack R times, conditioned on the person's earlier packs.

    Args:
        decoder: Event decoder in eval mode.
        path: The person's scanpath on the canvas.
        words: P packs from `pack_words`.
        batch: Tokens of this scanpath alone.
        terms: Log likelihoods of the batch, which weight the observer types.
        num_rollouts: R.
        seed: Random seed.
        image_maps: (1, hidden, g h, g w) from `canvas_features`.

    Returns:
        (R, P) sizes, capped at the largest size class.
    """
    rng = np.random.default_rng(seed)
    belief = Belief.of(batch.beliefs[0], decoder.config.grid)
    sizes = []
    history = EventHistory()
    for number, word in enumerate(words):
        before = batch.packs[0] < number
        rollout = Rollout(decoder, num_samples=num_rollouts, seed=seed, image_maps=image_maps)
        kinds = _kinds(decoder, terms, before, num_rollouts, rng)
        seen = belief.rows(batch.packs[0, before])
        states = None if batch.states is None else batch.states[0, batch.packs[0, before]]
        steps = rollout.resume(batch.facts[0, before], seen, kinds, history, batch.beliefs[0, :number], states)
        if steps is not None and history.fixations:
            _draw_pending(rollout, steps, batch, before, words[number - 1], rng)
        state = None if batch.states is None else batch.states[0, number]
        drawn = rollout.run_pack(word, batch.beliefs[0, number], state, at_most=NUM_CLASSES - 1)
        sizes.append([len(fixations) for fixations in drawn])
        history.begin_pack(word)
        for fixation in path.packs[number].fixations:
            history.add(fixation)
    return np.array(sizes).T


def _kinds(
    decoder: EventDecoder, terms: TokenTerms, before: Tensor, num_rollouts: int, rng: np.random.Generator
) -> Tensor:
    """Sample observer types from their posterior given the tokens so far, (R,)."""
    known = (decoder.prior.detach().log_softmax(0) + terms.total[:, 0][:, before].sum(-1)).softmax(0)
    shares = known.double().cpu().numpy()
    return torch.from_numpy(rng.choice(len(shares), num_rollouts, p=shares / shares.sum())).to(before.device)


def _draw_pending(
    rollout: Rollout, steps: StepPrediction, batch: EventBatch, before: Tensor, word: Word, rng: np.random.Generator
) -> None:
    """Sample the pending decision at the end of a pack: to stop, or the onset of a fixation in a later pack.

    If the last fixation outlasts the pack, nothing has been decided yet. Otherwise the decision was made within the
    pack, and it is only known that no fixation followed before the pack's end.
    """
    history = rollout.samples[0].history
    if word.end is None or history.end >= word.end:
        return
    first = _decision_token(batch, before)
    if first is None:
        return
    rows = np.arange(len(rollout.samples))
    stop = steps.stop[rows, first].sigmoid().cpu().numpy()
    gap = steps.gap.column(first)
    least = torch.full((len(rows),), max(word.end - history.end, MIN_GAP), device=steps.stop.device)
    late = (1 - gap.cdf(least)).clamp(min=1e-9).cpu().numpy() * (1 - stop)
    stopped = rng.random(len(rows)) < stop / (stop + late)
    gaps = gap.draw_after(torch.from_numpy(rng.random(len(rows))).to(least), least).tolist()
    for row in rows.tolist():
        rollout.set_pending(row, None if stopped[row] else history.end + gaps[row])


def _decision_token(batch: EventBatch, before: Tensor) -> int | None:
    """Find the token at which the step after the last fixation was decided."""
    count = batch.facts[0, :, FACT["count"]]
    places = (before & batch.decides[0] & (count == count[before].max())).nonzero()[:, 0]
    return int(places[0]) if len(places) else None
