"""Sample scanpaths from the event decoder, word by word and several at once.

Flow: a word with its times, a belief map and a language-model state -> Rollout.run_pack -> new fixations per sample
    -> predictor.py, baselines/event_decoder.py. Fixations are never revised once returned.
Source: our own. A clocked pack ends when the next fixation would begin after the word's end; others end by a token.
Shapes: S samples, D width of the decoder, C cells of the canvas, F facts; xy px of the canvas, ms.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sa2va.gaze.model.decoder import EventCache, EventDecoder, StepPrediction
from sa2va.gaze.model.events import MIN_GAP, EventHistory, Next, Word
from sa2va.gaze.model.features import Belief
from sa2va.gaze.model.scene_maps import FAINT, stack_history
from sa2va.gaze.scanpath import Fixation

Mode = Literal["sample", "mode"]
LastFixation = Literal["soft", "hard"]

CAP_BEFORE, CAP_WORD, CAP_AFTER = 3, 6, 20  # fixations per pack; the maxima of RefCOCO-Gaze are 3, 4 and 20
NUM_DRAWS = 8  # uniform numbers per step: 1 decision, 2 gap, 3 position, 2 duration


@dataclass
class _Sample:
    """One scanpath being sampled."""

    history: EventHistory = field(default_factory=EventHistory)
    start: float | None = None  # ms, onset of the next fixation, once decided
    is_done: bool = False  # viewing has ended
    is_closed: bool = False  # the current pack has ended
    survival: float = 1.0  # probability of not having stopped by now; for mode "mode"
    pack_survival: float = 1.0  # probability of not having left the current pack by now; for mode "mode"


class Rollout:
    """Sampler of S scanpaths over one image. Random numbers depend on (seed, sample, pack) alone."""

    def __init__(
        self,
        decoder: EventDecoder,
        *,
        num_samples: int = 1,
        seed: int = 0,
        mode: Mode = "sample",
        last_fixation: LastFixation = "soft",
        image_maps: Tensor | None = None,
    ) -> None:
        """Prepare a rollout.

        Args:
            decoder: Event decoder in eval mode.
            num_samples: S.
            seed: Random seed, >= 0.
            mode: "sample" draws every step. "mode" takes the most likely position and the median times, identical for
                all samples, and stops at the median number of fixations. Stopping at the most likely decision of each
                step would never stop: the hazard of a single step rarely exceeds one half.
            last_fixation: "hard" forbids stopping off the target, unless the belief map is empty; "soft" allows it.
            image_maps: (1, hidden, g h, g w) from `canvas_features`.
        """
        self.decoder, self.seed, self.mode = decoder, seed, mode
        self.last_fixation, self.image_maps = last_fixation, image_maps
        self.samples = [_Sample() for _ in range(num_samples)]
        device = decoder.prior.device
        self.observer = torch.tensor([self._draw_observer(row) for row in range(num_samples)], device=device)
        self._cache: EventCache | None = None
        self._context = torch.zeros(num_samples, decoder.config.width, device=device)
        self._facts = torch.zeros(0, device=device)
        self._beliefs: list[Tensor] = []  # of the packs so far
        self._maps: Tensor | None = None  # (1, M, C)
        self._belief: Belief | None = None
        self._state: Tensor | None = None

    def _draw_observer(self, row: int) -> int:
        shares = self.decoder.prior.detach().double().softmax(0).cpu().numpy()
        if self.mode == "mode":
            return int(shares.argmax())
        number = np.random.default_rng([self.seed, row]).random()
        return int(min(np.searchsorted(shares.cumsum(), number, side="right"), len(shares) - 1))

    @torch.no_grad()
    def run_pack(
        self, word: Word, belief: Tensor, state: Tensor | None = None, *, at_most: int | None = None
    ) -> list[list[Fixation]]:
        """Sample the fixations of the next pack.

        Args:
            word: The pack's word and times.
            belief: (g h, g w) target map given the words so far, 0..1.
            state: (S',) language-model state after this word.
            at_most: Maximum number of fixations; None = CAP_BEFORE, CAP_WORD or CAP_AFTER.

        Returns:
            S lists of new fixations.
        """
        self._begin_pack(word, belief, state)
        cap = CAP_AFTER if word.end is None else CAP_WORD if word.text is not None else CAP_BEFORE
        cap = cap if at_most is None else min(cap, at_most)
        pack = self.samples[0].history.pack
        generators = [np.random.default_rng([self.seed, row, pack]) for row in range(len(self.samples))]
        cover = _covered(belief).flatten().float()
        while not all(sample.is_done or sample.is_closed for sample in self.samples):
            numbers = torch.from_numpy(np.stack([one.random(NUM_DRAWS) for one in generators])).float()
            numbers = numbers.to(self._context.device)
            self._decide(numbers, cover if self.last_fixation == "hard" else torch.zeros_like(cover))
            self._draw_fixations(numbers, cap, cover)
        return [
            sample.history.fixations[len(sample.history.fixations) - sample.history.order :] for sample in self.samples
        ]

    def _begin_pack(self, word: Word, belief: Tensor, state: Tensor | None) -> None:
        """Append the word token of a new pack for all samples."""
        self._beliefs.append(belief)
        stacked = stack_history(torch.stack(self._beliefs)[None])[:, -1]
        self._maps = self.decoder.sight(stacked, self.image_maps, None if state is None else state[None])
        self._belief = Belief.of(belief[None].expand(len(self.samples), -1, -1), self.decoder.config.grid)
        self._state = state
        for sample in self.samples:
            sample.history.begin_pack(word)
            sample.is_closed, sample.pack_survival = False, 1.0
        self._append_token(range(len(self.samples)), is_fixation=False)

    @torch.no_grad()
    def resume(
        self,
        facts: Tensor,
        belief: Belief,
        observer: Tensor,
        history: EventHistory,
        beliefs: Tensor,
        states: Tensor | None = None,
    ) -> StepPrediction | None:
        """Continue all samples from the same recorded scanpath.

        Args:
            facts: (T, F) of its tokens so far.
            belief: T maps, one per token.
            observer: (S,) observer type of each sample.
            history: The scanpath up to the end of its current pack.
            beliefs: (P, g h, g w) belief maps of the packs so far.
            states: (T, S') language-model states, one per token.

        Returns:
            The predictions (S, T) of all tokens; None without tokens.
        """
        self.observer = observer
        self._beliefs = list(beliefs)
        self.samples = [_Sample(replace(history, fixations=list(history.fixations))) for _ in self.samples]
        if not len(facts):
            return None
        count = len(self.samples)
        everyone = belief.each(lambda value: value.expand(count, *value.shape))
        rows = facts.expand(count, *facts.shape)
        words = None if states is None else states.expand(count, *states.shape)
        context, self._cache = self.decoder.encode(rows, everyone, observer, states=words)
        self._context, self._facts = context[:, -1], rows[:, -1]
        return self.decoder.predict_step(context, rows)

    def set_pending(self, row: int, start: float | None) -> None:
        """Set a sample's next fixation onset, ms; None = it has stopped."""
        sample = self.samples[row]
        sample.is_done, sample.start = start is None, start

    # ---- one step of all samples

    def _append_token(self, rows: range | list[int], *, is_fixation: bool) -> None:
        """Append a token to some of the samples, and keep its context."""
        assert self._belief is not None
        device = self._context.device
        facts = torch.tensor([sample.history.facts(is_fixation=is_fixation) for sample in self.samples], device=device)
        written = torch.zeros(len(self.samples), dtype=torch.bool, device=device)
        written[list(rows)] = True
        states = None if self._state is None else self._state.expand(len(self.samples), 1, -1)
        belief = self._belief.each(lambda value: value[:, None])
        context, self._cache = self.decoder.encode(
            facts[:, None], belief, self.observer, states=states, valid=written[:, None], cache=self._cache
        )
        self._context = torch.where(written[:, None], context[:, 0], self._context)
        self._facts = facts

    def _decide(self, numbers: Tensor, cover: Tensor) -> None:
        """Decide for each sample whether it stops, waits for the next word, or when its next fixation begins."""
        undecided = []
        for row, sample in enumerate(self.samples):
            if sample.is_done or sample.is_closed or sample.start is not None:
                continue
            if not sample.history.fixations and sample.history.word.clocked:
                sample.start = self.first_start(float(numbers[row, 1]))
            elif sample.history.word.clocked and not sample.history.is_due:
                sample.is_closed = True
            else:
                undecided.append(row)
        if not undecided:
            return
        step = self.decoder.predict_step(self._context, self._facts)
        gaps = (step.gap.mode() if self.mode == "mode" else step.gap.draw(numbers[:, 1:3])).tolist()
        may_not_stop = torch.tensor(self._off_target(cover), device=numbers.device)
        if self.mode == "mode":
            choices = self._choose_median(step, undecided, may_not_stop)
        else:
            choices = self._choose(step, numbers[:, 0], may_not_stop)
        for row in undecided:
            sample, choice = self.samples[row], choices[row]
            sample.is_done, sample.is_closed = choice == Next.STOP, choice == Next.PACK
            if choice == Next.FIXATION:
                history = sample.history
                first = not history.fixations
                sample.start = (
                    self.first_start(float(numbers[row, 1])) if first else history.end + max(gaps[row], MIN_GAP)
                )

    def first_start(self, number: float) -> float:
        """Map a uniform number to the first fixation's onset, ms; no gap precedes it."""
        low, high = self.decoder.first_start.tolist()
        return low + (high - low) * (0.5 if self.mode == "mode" else number)

    def _off_target(self, cover: Tensor) -> list[bool]:
        """Tell which samples' last fixations lie outside the covered cells; none if nothing is covered."""
        if not cover.any():
            return [False] * len(self.samples)
        grid = self.decoder.config.grid
        rows, columns = grid.shape
        seen = cover.view(rows, columns)
        flags = []
        for sample in self.samples:
            fixation = sample.history.fixations[-1] if sample.history.fixations else None
            x, y = (int(fixation.x // grid.cell), int(fixation.y // grid.cell)) if fixation else (0, 0)
            flags.append(fixation is None or not bool(seen[min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)]))
        return flags

    def _choose(self, step: StepPrediction, numbers: Tensor, may_not_stop: Tensor) -> list[int]:
        """Draw each sample's next event, (S,) of Next."""
        if self.samples[0].history.word.clocked:
            done = (numbers < step.stop.sigmoid()) & ~may_not_stop
            return torch.where(done, Next.STOP.value, Next.FIXATION.value).tolist()
        total = _probabilities(step, may_not_stop).cumsum(-1)
        index = torch.searchsorted(total, numbers[:, None] * total[:, -1:], right=True)[:, 0]
        return index.clamp(max=len(Next) - 1).tolist()

    def _choose_median(self, step: StepPrediction, undecided: list[int], may_not_stop: Tensor) -> list[int]:
        """Choose each sample's next event by its survival probability, (S,) of Next.

        The survival probability is the product of 1 - hazard over the steps so far. A sample stops when it falls below
        one half, the median number of fixations, and leaves an unclocked pack likewise. Only the past enters.
        """
        choices = [Next.FIXATION.value] * len(self.samples)
        if self.samples[0].history.word.clocked:
            stops, leaves = step.stop.sigmoid() * ~may_not_stop, torch.zeros_like(step.stop)
        else:
            probabilities = _probabilities(step, may_not_stop)
            stops = probabilities[:, Next.STOP]
            leaves = probabilities[:, Next.PACK] / (1 - stops).clamp(min=1e-9)
        for row in undecided:
            sample = self.samples[row]
            sample.survival *= 1 - float(stops[row])
            sample.pack_survival *= 1 - float(leaves[row])
            if sample.survival < 0.5:
                choices[row] = Next.STOP.value
            elif sample.pack_survival < 0.5:
                choices[row] = Next.PACK.value
        return choices

    def _draw_fixations(self, numbers: Tensor, cap: int, cover: Tensor) -> None:
        """Draw the next fixation of each sample whose decided onset lies in this pack."""
        rows = []
        for row, sample in enumerate(self.samples):
            if sample.is_done or sample.is_closed or sample.start is None:
                continue
            word = sample.history.word
            if sample.history.order >= cap:
                sample.is_closed, sample.is_done = True, word.end is None
            elif word.clocked and word.end is not None and sample.start >= word.end:
                sample.is_closed = True
            else:
                rows.append(row)
        if not rows:
            return
        assert self._belief is not None and self._maps is not None
        index = torch.tensor(rows, device=self._context.device)
        onsets = [self._onset(self.samples[row]) for row in rows]
        start = torch.tensor(onsets, device=index.device)
        context, facts, belief = self._context[index], self._facts[index], self._belief.rows(index)
        maps = self._maps.expand(len(rows), -1, -1)
        density = self.decoder.place_density(context, facts, start, self.decoder.cell_features(facts, belief, maps))
        if self.last_fixation == "hard" and cover.any():
            last = torch.tensor([self.samples[row].history.order == CAP_AFTER - 1 for row in rows], device=index.device)
            allowed = torch.where(last[:, None], cover, torch.ones_like(cover))
            density = density.restricted(allowed)
        points = density.mode() if self.mode == "mode" else density.draw(numbers[index, 3:6])
        durations = self.decoder.duration_density(context, facts, start, points, belief)
        times = durations.mode() if self.mode == "mode" else durations.draw(numbers[index, 6:8])
        for row, onset, (x, y), time in zip(rows, onsets, points.tolist(), times.tolist(), strict=True):
            self.samples[row].history.add(Fixation(x, y, onset, time))
            self.samples[row].start = None
        self._append_token(rows, is_fixation=True)

    @staticmethod
    def _onset(sample: _Sample) -> float:
        """Return the decided onset, or the pack's onset if that is later."""
        assert sample.start is not None
        is_first = sample.history.pack == 0
        return (
            sample.start
            if is_first or not sample.history.word.clocked
            else max(sample.start, sample.history.word.onset)
        )


def _probabilities(step: StepPrediction, may_not_stop: Tensor) -> Tensor:
    """Return the probability of each Next in unclocked packs, (S, 3), renormalized where stopping is forbidden."""
    probabilities = step.next.softmax(-1)
    is_stop = torch.arange(len(Next), device=may_not_stop.device) == Next.STOP
    probabilities = probabilities * ~(may_not_stop[:, None] & is_stop)
    return probabilities / probabilities.sum(-1, keepdim=True)


def _covered(belief: Tensor) -> Tensor:
    """Tell which cells the target covers: (g h, g w) 0..1 -> bool (g h, g w).

    The threshold is one half, or half the peak for a thin or uncertain target that fills no cell by half.
    """
    strongest = belief.max()
    return (belief > 0.5) if strongest > 0.5 or strongest < FAINT else (belief > strongest / 2)
