"""Let the event decoder look, word by word, as several people at once.

Flow: a word with its clock, a belief map and a state -> Rollout.hear -> new fixations per sample; nothing that has been
    given out is ever changed. predictor.py and rivals/ours.py go through it.
Source: our own. Packs end by a clock, when the next fixation would begin after the word's end, or by a token.
Shapes: S samples, D width of the decoder, C cells of the canvas, F facts; xy px of the canvas, ms.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sa2va.gaze.model.decoder import EventCache, EventDecoder, Outlook
from sa2va.gaze.model.events import MIN_GAP, Next, Track, Word
from sa2va.gaze.model.features import Belief
from sa2va.gaze.model.sight import FAINT, recall
from sa2va.gaze.scanpath import Fixation

Mode = Literal["sample", "mode"]
Landing = Literal["soft", "hard"]

CAP_BEFORE, CAP_WORD, CAP_AFTER = 3, 6, 20  # fixations of a pack; people of RefCOCO-Gaze had at most 3, 4 and 20
NUM_DRAWS = 8  # uniform numbers of one step: 1 decides, 2 pause, 3 place, 2 duration


@dataclass
class _Eye:
    """What is pending for one sample."""

    track: Track = field(default_factory=Track)
    start: float | None = None  # ms, of the next fixation, once that is settled
    is_done: bool = False  # stopped for good
    is_closed: bool = False  # nothing more in the present pack
    going: float = 1.0  # share of people who would not have stopped by now; only mode "mode" counts it
    staying: float = 1.0  # of those, who would not have left the present pack by now


class Rollout:
    """S looks at one picture, in step with the words. Random numbers depend on (seed, sample, pack) alone."""

    def __init__(
        self,
        decoder: EventDecoder,
        *,
        num_samples: int = 1,
        seed: int = 0,
        mode: Mode = "sample",
        landing: Landing = "soft",
        view: Tensor | None = None,
    ) -> None:
        """Begin to look.

        Args:
            decoder: in eval mode.
            num_samples: S.
            seed: >= 0.
            mode: "sample" draws; "mode" takes the likeliest place and a usual time at every step, the same for all
                samples, and stops once half of the people would have. The likeliest answer of each step alone would
                be no: at few steps do more than half of those who still look stop, and so it would never end.
            landing: "hard" lets nobody stop beside the target while there is a belief where it is.
            view: (1, hidden, g h, g w) of `Sight.picture`, on the canvas.
        """
        self.decoder, self.seed, self.mode, self.landing, self.view = decoder, seed, mode, landing, view
        self.eyes = [_Eye() for _ in range(num_samples)]
        device = decoder.prior.device
        self.observer = torch.tensor([self._kind(sample) for sample in range(num_samples)], device=device)
        self._cache: EventCache | None = None
        self._context = torch.zeros(num_samples, decoder.config.width, device=device)
        self._facts = torch.zeros(0, device=device)
        self._heard: list[Tensor] = []  # belief maps so far
        self._maps: Tensor | None = None  # (1, M, C)
        self._belief: Belief | None = None
        self._state: Tensor | None = None

    def _kind(self, sample: int) -> int:
        shares = self.decoder.prior.detach().double().softmax(0).cpu().numpy()
        if self.mode == "mode":
            return int(shares.argmax())
        number = np.random.default_rng([self.seed, sample]).random()
        return int(min(np.searchsorted(shares.cumsum(), number, side="right"), len(shares) - 1))

    @torch.no_grad()
    def hear(
        self, word: Word, belief: Tensor, state: Tensor | None = None, *, at_most: int | None = None
    ) -> list[list[Fixation]]:
        """Begin a pack and look until it ends.

        Args:
            word: what is heard, and when.
            belief: (g h, g w) where the target is so far, 0..1.
            state: (S',) of the language model after this word.
            at_most: fixations of this pack; None = as many as people have.

        Returns:
            S lists of new fixations.
        """
        self.begin(word, belief, state)
        cap = CAP_AFTER if word.end is None else CAP_WORD if word.text is not None else CAP_BEFORE
        cap = cap if at_most is None else min(cap, at_most)
        pack = self.eyes[0].track.pack
        generators = [np.random.default_rng([self.seed, sample, pack]) for sample in range(len(self.eyes))]
        cover = _covered(belief).flatten().float()
        while not all(eye.is_done or eye.is_closed for eye in self.eyes):
            numbers = torch.from_numpy(np.stack([one.random(NUM_DRAWS) for one in generators])).float()
            numbers = numbers.to(self._context.device)
            self._decide(numbers, cover if self.landing == "hard" else torch.zeros_like(cover))
            self._look(numbers, cap, cover)
        return [eye.track.fixations[len(eye.track.fixations) - eye.track.order :] for eye in self.eyes]

    def begin(self, word: Word, belief: Tensor, state: Tensor | None) -> None:
        """Write the token of a new pack for all samples."""
        self._heard.append(belief)
        recalled = recall(torch.stack(self._heard)[None])[:, -1]
        self._maps = self.decoder.sight(recalled, self.view, None if state is None else state[None])
        self._belief = Belief.of(belief[None].expand(len(self.eyes), -1, -1), self.decoder.config.grid)
        self._state = state
        for eye in self.eyes:
            eye.track.hear(word)
            eye.is_closed, eye.staying = False, 1.0
        self._write(range(len(self.eyes)), is_fixation=False)

    @torch.no_grad()
    def resume(
        self,
        facts: Tensor,
        belief: Belief,
        observer: Tensor,
        track: Track,
        heard: Tensor,
        states: Tensor | None = None,
    ) -> Outlook | None:
        """Take up a look that somebody else has begun, for all samples.

        Args:
            facts: (T, F) of its tokens so far.
            belief: T maps, of the same tokens.
            observer: (S,) kind of each sample.
            track: what it has seen, up to the end of its present pack.
            heard: (P, g h, g w) belief maps of the packs so far.
            states: (T, S') of the language model, of the same tokens.

        Returns:
            What the last token says, the same for all samples but for their kinds; None where there is no token.
        """
        self.observer = observer
        self._heard = list(heard)
        self.eyes = [_Eye(replace(track, fixations=list(track.fixations))) for _ in self.eyes]
        if not len(facts):
            return None
        count = len(self.eyes)
        everyone = belief.each(lambda value: value.expand(count, *value.shape))
        rows = facts.expand(count, *facts.shape)
        words = None if states is None else states.expand(count, *states.shape)
        context, self._cache = self.decoder.encode(rows, everyone, observer, states=words)
        self._context, self._facts = context[:, -1], rows[:, -1]
        return self.decoder.foresee(context, rows)

    def settle(self, sample: int, start: float | None) -> None:
        """Say when a sample looks next, ms, or that it has stopped."""
        eye = self.eyes[sample]
        eye.is_done, eye.start = start is None, start

    # ---- one step of all samples

    def _write(self, rows: range | list[int], *, is_fixation: bool) -> None:
        """Append a token for some of the samples, and keep what it says."""
        assert self._belief is not None
        device = self._context.device
        facts = torch.tensor([eye.track.facts(is_fixation=is_fixation) for eye in self.eyes], device=device)
        written = torch.zeros(len(self.eyes), dtype=torch.bool, device=device)
        written[list(rows)] = True
        states = None if self._state is None else self._state.expand(len(self.eyes), 1, -1)
        belief = self._belief.each(lambda value: value[:, None])
        context, self._cache = self.decoder.encode(
            facts[:, None], belief, self.observer, states=states, valid=written[:, None], cache=self._cache
        )
        self._context = torch.where(written[:, None], context[:, 0], self._context)
        self._facts = facts

    def _decide(self, numbers: Tensor, cover: Tensor) -> None:
        """Settle for each sample whether it stops, waits for the next word, or when it looks next."""
        waiting = []
        for row, eye in enumerate(self.eyes):
            if eye.is_done or eye.is_closed or eye.start is not None:
                continue
            if not eye.track.fixations and eye.track.word.clocked:
                eye.start = self.first_start(float(numbers[row, 1]))
            elif eye.track.word.clocked and not eye.track.is_due:
                eye.is_closed = True
            else:
                waiting.append(row)
        if not waiting:
            return
        outlook = self.decoder.foresee(self._context, self._facts)
        gaps = (outlook.gap.mode() if self.mode == "mode" else outlook.gap.draw(numbers[:, 1:3])).tolist()
        stay = torch.tensor(self._off_target(cover), device=numbers.device)
        if self.mode == "mode":
            choices = self._choose_usual(outlook, waiting, stay)
        else:
            choices = self._choose(outlook, numbers[:, 0], stay)
        for row in waiting:
            eye, choice = self.eyes[row], choices[row]
            eye.is_done, eye.is_closed = choice == Next.DONE, choice == Next.PACK
            if choice == Next.LOOK:
                track = eye.track
                first = not track.fixations
                eye.start = self.first_start(float(numbers[row, 1])) if first else track.end + max(gaps[row], MIN_GAP)

    def first_start(self, number: float) -> float:
        """When the first fixation begins, ms: nothing is before it that a pause could follow."""
        low, high = self.decoder.first_start.tolist()
        return low + (high - low) * (0.5 if self.mode == "mode" else number)

    def _off_target(self, cover: Tensor) -> list[bool]:
        """Whether the last fixation of each sample is beside what is covered, where anything is."""
        if not cover.any():
            return [False] * len(self.eyes)
        grid = self.decoder.config.grid
        rows, columns = grid.shape
        seen = cover.view(rows, columns)
        flags = []
        for eye in self.eyes:
            fixation = eye.track.fixations[-1] if eye.track.fixations else None
            x, y = (int(fixation.x // grid.cell), int(fixation.y // grid.cell)) if fixation else (0, 0)
            flags.append(fixation is None or not bool(seen[min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)]))
        return flags

    def _choose(self, outlook: Outlook, numbers: Tensor, stay: Tensor) -> list[int]:
        """Draw what follows for each sample, (S,) of Next; who stays may not stop."""
        if self.eyes[0].track.word.clocked:
            done = (numbers < outlook.stop.sigmoid()) & ~stay
            return torch.where(done, Next.DONE.value, Next.LOOK.value).tolist()
        total = _chances(outlook, stay).cumsum(-1)
        index = torch.searchsorted(total, numbers[:, None] * total[:, -1:], right=True)[:, 0]
        return index.clamp(max=len(Next) - 1).tolist()

    def _choose_usual(self, outlook: Outlook, waiting: list[int], stay: Tensor) -> list[int]:
        """Choose as the median of people does, (S,) of Next: stop, or leave the pack, once half of them have.

        The hazards of the steps multiply to the share who go on. It falls below a half at the median of the number of
        fixations, and at that of a pack where no clock ends it. Only the past is in it.
        """
        choices = [Next.LOOK.value] * len(self.eyes)
        if self.eyes[0].track.word.clocked:
            stops, leaves = outlook.stop.sigmoid() * ~stay, torch.zeros_like(outlook.stop)
        else:
            chances = _chances(outlook, stay)
            stops = chances[:, Next.DONE]
            leaves = chances[:, Next.PACK] / (1 - stops).clamp(min=1e-9)
        for row in waiting:
            eye = self.eyes[row]
            eye.going *= 1 - float(stops[row])
            eye.staying *= 1 - float(leaves[row])
            if eye.going < 0.5:
                choices[row] = Next.DONE.value
            elif eye.staying < 0.5:
                choices[row] = Next.PACK.value
        return choices

    def _look(self, numbers: Tensor, cap: int, cover: Tensor) -> None:
        """Draw the next fixation of each sample that has one in this pack."""
        rows = []
        for row, eye in enumerate(self.eyes):
            if eye.is_done or eye.is_closed or eye.start is None:
                continue
            word = eye.track.word
            if eye.track.order >= cap:
                eye.is_closed, eye.is_done = True, word.end is None
            elif word.clocked and word.end is not None and eye.start >= word.end:
                eye.is_closed = True
            else:
                rows.append(row)
        if not rows:
            return
        assert self._belief is not None and self._maps is not None
        index = torch.tensor(rows, device=self._context.device)
        begins = [self._begins(self.eyes[row]) for row in rows]
        start = torch.tensor(begins, device=index.device)
        context, facts, belief = self._context[index], self._facts[index], self._belief.rows(index)
        maps = self._maps.expand(len(rows), -1, -1)
        density = self.decoder.place(context, facts, start, self.decoder.cells(facts, belief, maps))
        if self.landing == "hard" and cover.any():
            last = torch.tensor([self.eyes[row].track.order == CAP_AFTER - 1 for row in rows], device=index.device)
            allowed = torch.where(last[:, None], cover, torch.ones_like(cover))
            density = density.restricted(allowed)
        points = density.mode() if self.mode == "mode" else density.draw(numbers[index, 3:6])
        law = self.decoder.duration(context, facts, start, points, belief)
        times = law.mode() if self.mode == "mode" else law.draw(numbers[index, 6:8])
        for row, begin, (x, y), time in zip(rows, begins, points.tolist(), times.tolist(), strict=True):
            self.eyes[row].track.look(Fixation(x, y, begin, time))
            self.eyes[row].start = None
        self._write(rows, is_fixation=True)

    @staticmethod
    def _begins(eye: _Eye) -> float:
        """When a fixation that has been settled begins: not before its pack does, whose word may have been late."""
        assert eye.start is not None
        is_first = eye.track.pack == 0
        return eye.start if is_first or not eye.track.word.clocked else max(eye.start, eye.track.word.onset)


def _chances(outlook: Outlook, stay: Tensor) -> Tensor:
    """Probability of each Next where no clock ends the packs, (S, 3); who stays does not stop."""
    chances = outlook.next.softmax(-1)
    chances = chances * ~(stay[:, None] & (torch.arange(len(Next), device=stay.device) == Next.DONE))
    return chances / chances.sum(-1, keepdim=True)


def _covered(belief: Tensor) -> Tensor:
    """Tell which cells the target covers: (g h, g w) 0..1 -> bool (g h, g w).

    A thin or doubtful target fills none by half; then those that it fills best count.
    """
    strongest = belief.max()
    return (belief > 0.5) if strongest > 0.5 or strongest < FAINT else (belief > strongest / 2)
