"""Ask the event decoder how many fixations each pack of a person has, given the packs before it.

Flow: a recorded look -> for each pack, what was seen before it -> many looks at that one pack -> counts of sizes.
Source: our own. The sizes of packs have no closed form where a clock ends them, so they are counted.
Shapes: R looks per pack, P = N + 2 packs, T tokens, F facts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2va.gaze.metrics.sizes import NUM_CLASSES
from sa2va.gaze.model.decoder import EventDecoder, Outlook
from sa2va.gaze.model.events import FACT, MIN_GAP, EventBatch, Track, Word
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
    num_looks: int = 64,
    seed: int = 0,
    view: Tensor | None = None,
) -> NDArray[np.int64]:
    """Draw the size of each pack R times, each time after the person's own packs before it.

    Args:
        decoder: in eval mode.
        path: on the canvas.
        words: P packs, as `words_of` gives them.
        batch: of this path alone.
        terms: of the batch; what it says of kinds of observers.
        num_looks: R.
        seed: of chance.
        view: (1, hidden, g h, g w) of `Sight.picture`, on the canvas.

    Returns:
        (R, P), the largest class for all sizes beyond it.
    """
    rng = np.random.default_rng(seed)
    belief = Belief.of(batch.beliefs[0], decoder.config.grid)
    sizes = []
    track = Track()
    for number, word in enumerate(words):
        before = batch.packs[0] < number
        rollout = Rollout(decoder, num_samples=num_looks, seed=seed, view=view)
        kinds = _kinds(decoder, terms, before, num_looks, rng)
        seen = belief.rows(batch.packs[0, before])
        told = None if batch.states is None else batch.states[0, batch.packs[0, before]]
        outlook = rollout.resume(batch.facts[0, before], seen, kinds, track, batch.beliefs[0, :number], told)
        if outlook is not None and track.fixations:
            _settle(rollout, outlook, batch, before, words[number - 1], rng)
        state = None if batch.states is None else batch.states[0, number]
        looked = rollout.hear(word, batch.beliefs[0, number], state, at_most=NUM_CLASSES - 1)
        sizes.append([len(fixations) for fixations in looked])
        track.hear(word)
        for fixation in path.packs[number].fixations:
            track.look(fixation)
    return np.array(sizes).T


def _kinds(
    decoder: EventDecoder, terms: TokenTerms, before: Tensor, num_looks: int, rng: np.random.Generator
) -> Tensor:
    """Draw kinds of observers as far as the tokens so far tell, (R,)."""
    known = (decoder.prior.detach().log_softmax(0) + terms.total[:, 0][:, before].sum(-1)).softmax(0)
    shares = known.double().cpu().numpy()
    return torch.from_numpy(rng.choice(len(shares), num_looks, p=shares / shares.sum())).to(before.device)


def _settle(
    rollout: Rollout, outlook: Outlook, batch: EventBatch, before: Tensor, word: Word, rng: np.random.Generator
) -> None:
    """Draw what is pending at the end of a pack: stopped, or a next fixation that this pack did not see.

    Where the last fixation outlasts the pack, nothing has been decided yet. Otherwise the decision has been made, and
    all that is known of it is that no fixation came of it so far.
    """
    track = rollout.eyes[0].track
    if word.end is None or track.end >= word.end:
        return
    first = _decided(batch, before)
    if first is None:
        return
    looks = np.arange(len(rollout.eyes))
    stop = outlook.stop[looks, first].sigmoid().cpu().numpy()
    law = outlook.gap.column(first)
    least = torch.full((len(looks),), max(word.end - track.end, MIN_GAP), device=outlook.stop.device)
    late = (1 - law.cdf(least)).clamp(min=1e-9).cpu().numpy() * (1 - stop)
    stopped = rng.random(len(looks)) < stop / (stop + late)
    gaps = law.draw_after(torch.from_numpy(rng.random(len(looks))).to(least), least).tolist()
    for sample in looks.tolist():
        rollout.settle(sample, None if stopped[sample] else track.end + gaps[sample])


def _decided(batch: EventBatch, before: Tensor) -> int | None:
    """The token at which the step after the last fixation was decided."""
    count = batch.facts[0, :, FACT["count"]]
    places = (before & batch.decides[0] & (count == count[before].max())).nonzero()[:, 0]
    return int(places[0]) if len(places) else None
