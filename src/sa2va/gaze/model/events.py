"""Write a look at a picture as the row of tokens that the event decoder reads.

Flow: rollout.py (a look in the making) and training (a recorded Trial) -> Track -> facts per token -> collate ->
    EventBatch -> decoder.py. Both go through Track, so that what is trained is what is drawn.
Shapes: B scanpaths, T tokens (one per pack, where its word is heard, and one per fixation), P = N + 2 packs,
    N words, F facts; xy px of the canvas, ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any, Self

import torch
from torch import Tensor

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.speech import ARTICLES, FIRST_ONSET, UNSTRESSED, predict_duration, predict_timing
from sa2va.gaze.timing import SpeechTiming

CENTER = (CANVAS[0] / 2, CANVAS[1] / 2)
MIN_GAP = 1.0  # ms between two fixations


class Next(IntEnum):
    """What follows a token where no clock ends the packs."""

    LOOK = 0
    PACK = 1
    DONE = 2


NO_LABEL = -1
FLAGS = ("decides", "stops", "looks", "is_last")


@dataclass(frozen=True)
class Word:
    """What is known of a pack when it begins, and nothing of what comes after it."""

    text: str | None  # None before the first word and after the last one
    onset: float  # ms
    end: float | None  # ms, None after the last word
    clocked: bool = True  # False hides all times: packs end by a token

    @property
    def kind(self) -> tuple[bool, bool]:
        """Whether it comes before the words, whether it comes after them."""
        return self.text is None and self.end is not None, self.end is None


FACTS = (
    "is_fixation", "is_before", "is_after", "clocked", "pack", "order", "count", "x", "y", "last_x", "last_y",
    "start", "end", "onset", "until", "length", "surprise", "stress",
)  # fmt: skip
FACT = {name: place for place, name in enumerate(FACTS)}


@dataclass
class Track:
    """One person's look so far, as plain numbers. Only the past is in it."""

    fixations: list[Fixation] = field(default_factory=list)
    word: Word = field(default_factory=lambda: Word(None, 0.0, FIRST_ONSET))
    pack: int = -1
    order: int = 0  # fixations in the present pack

    def hear(self, word: Word) -> None:
        """Begin the next pack."""
        self.word, self.pack, self.order = word, self.pack + 1, 0

    def look(self, fixation: Fixation) -> None:
        """Add a fixation to the present pack."""
        self.fixations.append(fixation)
        self.order += 1

    @property
    def end(self) -> float:
        """When the last fixation ends, ms."""
        return self.fixations[-1].start + self.fixations[-1].duration if self.fixations else 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last fixation ends before the present pack does, so that the next step is decided in it."""
        return bool(self.fixations) and (self.word.end is None or self.end < self.word.end)

    def facts(self, *, is_fixation: bool) -> list[float]:
        """The F numbers of a token that is written now."""
        word = self.word
        before, after = word.kind
        here = self.fixations[-1] if self.fixations else Fixation(*CENTER, 0.0, 0.0)
        last = self.fixations[-2] if len(self.fixations) > 1 else here
        length = word.end - word.onset if word.end is not None and word.text is not None else 0.0
        said = word.text if word.text is not None else ""
        stress = 2.0 * (said.lower() in ARTICLES) + (said.lower() in UNSTRESSED) if said else 0.0
        surprise = length - predict_duration(said) if said else 0.0
        times = [here.start, self.end, word.onset, word.end if word.end is not None else 0.0, length, surprise]
        if not word.clocked:
            times = [0.0] * len(times)
        kinds = [float(is_fixation), float(before), float(after), float(word.clocked)]
        counts = [float(self.pack), float(self.order), float(len(self.fixations))]
        return [*kinds, *counts, here.x, here.y, last.x, last.y, *times, stress]


@dataclass(frozen=True, kw_only=True)
class EventBatch:
    """Tokens of B scanpaths, padded on the right, and what follows each."""

    facts: Tensor  # (B, T, F)
    packs: Tensor  # (B, T) long
    valid: Tensor  # (B, T) bool
    label: Tensor  # (B, T) long, Next, or NO_LABEL where nothing is known or nothing is asked
    decides: Tensor  # (B, T) bool: whether to go on is decided here, by the clock
    stops: Tensor  # (B, T) bool: the decision was to stop
    gap: Tensor  # (B, T) ms from the last fixation to the next, where the decision was to go on
    looks: Tensor  # (B, T) bool: a fixation follows at once
    target: Tensor  # (B, T, 4) its x, y, start, duration
    is_last: Tensor  # (B, T) bool: it is the last one
    beliefs: Tensor  # (B, P, g h, g w) where the target is so far, 0..1
    states: Tensor | None = None  # (B, P, D) what the language model makes of the words so far
    cover: Tensor | None = None  # (B, g h, g w) where the target is, 0..1; None = where the last belief has it

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def to(self, device: torch.device | str) -> Self:
        return replace(self, **{name: value.to(device) for name, value in self.tensors.items()})

    def rows(self, index: Tensor) -> Self:
        """Take some of the scanpaths, (V,), and no more tokens than they have."""
        length = int(self.valid[index].sum(1).max())
        no_tokens = ("beliefs", "states", "cover")
        taken = {name: value[index] for name, value in self.tensors.items()}
        return replace(self, **{name: row if name in no_tokens else row[:, :length] for name, row in taken.items()})


def words_of(words: Sequence[str], timing: SpeechTiming | None, *, clocked: bool = True) -> list[Word]:
    """List the N + 2 packs of an expression; times that are not known are predicted from each word alone.

    Packs lie where `timing.pack_indices` has them: the first one ends where the first word begins, as in the recordings
    of RefCOCO-Gaze, whose first words begin 30 to 250 ms after the sound, and the last one begins where the sound is
    over. A pack knows its own span, as a stream does, and nothing of the words after it.
    """
    clock = timing if timing is not None else predict_timing(words)
    packs = [Word(None, 0.0, (*clock.onsets, clock.duration)[0], clocked)]
    packs += [Word(*entry, clocked) for entry in zip(words, clock.onsets, clock.ends, strict=True)]
    return [*packs, Word(None, clock.duration, None, clocked)]


def write_tokens(scanpath: Scanpath, timing: SpeechTiming | None, *, clocked: bool = True) -> list[dict[str, Any]]:
    """Walk through a recorded scanpath on the canvas: one record per token, with what followed it.

    Raises:
        ValueError: it is over another canvas, or has no fixation to learn from.
    """
    if (scanpath.width, scanpath.height) != CANVAS:
        raise ValueError(
            f"scanpath over {scanpath.width} x {scanpath.height} px, expected the canvas of {CANVAS[0]} x {CANVAS[1]}"
        )
    if not scanpath.fixations:
        raise ValueError(f"scanpath of {scanpath.image or 'a picture'}: no fixations, expected at least one")
    track, tokens, decided = Track(), [], False
    total = len(scanpath.fixations)
    for word, pack in zip(words_of(scanpath.words, timing, clocked=clocked), scanpath.packs, strict=True):
        track.hear(word)
        upcoming = [*pack.fixations, None]
        for number, following in enumerate(upcoming):
            token = _token(track, is_fixation=number > 0, following=following)
            over = len(track.fixations) == total
            if track.fixations and not decided and (following is not None or track.is_due):
                decided = True
                token |= {"decides": True, "stops": over}
                if not over:
                    token["gap"] = max(scanpath.fixations[len(track.fixations)].start - track.end, MIN_GAP)
                token["label"] = Next.DONE if over else token["label"]
            elif over and decided:
                token["label"] = NO_LABEL  # nobody is looking any more
            tokens.append(token)
            if following is not None:
                token["is_last"] = len(track.fixations) + 1 == total
                track.look(following)
                decided = False
    return tokens


def _token(track: Track, *, is_fixation: bool, following: Fixation | None) -> dict[str, Any]:
    """Describe the present moment; a clock that has not decided yet leaves the rest to the caller."""
    target = (0.0, 0.0, 0.0, 1.0)
    if following is not None:
        target = (following.x, following.y, following.start, max(following.duration, 1.0))
    return {
        "facts": track.facts(is_fixation=is_fixation),
        "packs": track.pack,
        "label": Next.LOOK if following is not None else Next.PACK,
        "decides": False,
        "stops": False,
        "gap": MIN_GAP,
        "looks": following is not None,
        "target": target,
        "is_last": False,
    }


def collate(
    rows: Sequence[list[dict[str, Any]]], beliefs: Sequence[Tensor], *, states: Tensor | None = None
) -> EventBatch:
    """Put the tokens of B scanpaths into one batch.

    Args:
        rows: of `write_tokens`.
        beliefs: B maps (P, g h, g w), 0..1.
        states: (B, P, D) of the language model.
    """
    length, packs = max(map(len, rows)), max(map(len, beliefs))
    kinds: dict[str, torch.dtype] = {"packs": torch.long, "label": torch.long} | dict.fromkeys(FLAGS, torch.bool)
    empty = _token(Track(pack=0), is_fixation=False, following=None) | {"label": NO_LABEL}
    columns: dict[str, Any] = {}
    for name, blank in empty.items():
        filled = [[token[name] for token in row] + [blank] * (length - len(row)) for row in rows]
        columns[name] = torch.tensor(filled, dtype=kinds.get(name, torch.float32))
    valid = torch.tensor([[place < len(row) for place in range(length)] for row in rows])
    maps = torch.stack([torch.cat([one, one[-1:].expand(packs - len(one), -1, -1)]) for one in beliefs])
    return EventBatch(valid=valid, beliefs=maps, states=states, **columns)
