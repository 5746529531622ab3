"""Convert scanpaths to the token sequences that the event decoder reads.

Flow: rollout.py (a scanpath being sampled), training (a recorded Trial) -> EventHistory -> facts per token -> collate
    -> EventBatch -> decoder.py. Sampling and training share EventHistory, so their tokens cannot differ.
Shapes: B scanpaths, T tokens (one per pack, at its word, and one per fixation), P = N + 2 packs, N words, F facts;
    xy px of the canvas, ms.
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
    """Event after a token in unclocked packs, which end by a token instead of at a word's end."""

    FIXATION = 0
    PACK = 1
    STOP = 2


NO_LABEL = -1
FLAGS = ("decides", "stops", "looks", "is_last")


@dataclass(frozen=True)
class Word:
    """A pack's word and times as known at its onset; nothing about later words."""

    text: str | None  # None before the first word and after the last one
    onset: float  # ms
    end: float | None  # ms, None after the last word
    clocked: bool = True  # False hides all times; packs then end by a token

    @property
    def kind(self) -> tuple[bool, bool]:
        """Tell whether the pack comes before the words, and whether it comes after them."""
        return self.text is None and self.end is not None, self.end is None


FACTS = (
    "is_fixation", "is_before", "is_after", "clocked", "pack", "order", "count", "x", "y", "last_x", "last_y",
    "start", "end", "onset", "until", "length", "surprise", "stress",
)  # fmt: skip
FACT = {name: place for place, name in enumerate(FACTS)}


@dataclass
class EventHistory:
    """The fixations and the current word of one scanpath so far."""

    fixations: list[Fixation] = field(default_factory=list)
    word: Word = field(default_factory=lambda: Word(None, 0.0, FIRST_ONSET))
    pack: int = -1
    order: int = 0  # fixations in the current pack

    def begin_pack(self, word: Word) -> None:
        """Start the next pack."""
        self.word, self.pack, self.order = word, self.pack + 1, 0

    def add(self, fixation: Fixation) -> None:
        """Append a fixation to the current pack."""
        self.fixations.append(fixation)
        self.order += 1

    @property
    def end(self) -> float:
        """End of the last fixation, ms."""
        return self.fixations[-1].start + self.fixations[-1].duration if self.fixations else 0.0

    @property
    def is_due(self) -> bool:
        """Tell whether the last fixation ends within the current pack, so that the next step is decided there."""
        return bool(self.fixations) and (self.word.end is None or self.end < self.word.end)

    def facts(self, *, is_fixation: bool) -> list[float]:
        """Return the F input numbers of a token at the current moment."""
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
    """Tokens of B scanpaths, padded on the right, with the event that follows each."""

    facts: Tensor  # (B, T, F)
    packs: Tensor  # (B, T) long
    valid: Tensor  # (B, T) bool
    label: Tensor  # (B, T) long, Next; NO_LABEL at padding and undecided tokens
    decides: Tensor  # (B, T) bool, clocked packs: stop or continue is decided here
    stops: Tensor  # (B, T) bool: the decision is to stop
    gap: Tensor  # (B, T) ms from the last fixation to the next, where the decision is to continue
    looks: Tensor  # (B, T) bool: a fixation follows this token
    target: Tensor  # (B, T, 4) its x, y, start, duration
    is_last: Tensor  # (B, T) bool: it is the last fixation
    beliefs: Tensor  # (B, P, g h, g w) target map given the words so far, 0..1
    states: Tensor | None = None  # (B, P, D) language-model state after each word
    cover: Tensor | None = None  # (B, g h, g w) true target map, 0..1; None = the last belief map

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are set, by name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def to(self, device: torch.device | str) -> Self:
        return replace(self, **{name: value.to(device) for name, value in self.tensors.items()})

    def rows(self, index: Tensor) -> Self:
        """Select scanpaths (V,), trimmed to their longest token sequence."""
        length = int(self.valid[index].sum(1).max())
        no_tokens = ("beliefs", "states", "cover")
        taken = {name: value[index] for name, value in self.tensors.items()}
        return replace(self, **{name: row if name in no_tokens else row[:, :length] for name, row in taken.items()})


def pack_words(words: Sequence[str], timing: SpeechTiming | None, *, clocked: bool = True) -> list[Word]:
    """List the N + 2 packs of an expression; missing times are predicted from each word alone.

    Pack borders agree with `timing.pack_indices`. The first pack ends at the first word's onset, which in RefCOCO-Gaze
    is 30 to 250 ms after the sound begins; the last pack begins at the end of the sound.
    """
    clock = timing if timing is not None else predict_timing(words)
    packs = [Word(None, 0.0, (*clock.onsets, clock.duration)[0], clocked)]
    packs += [Word(*entry, clocked) for entry in zip(words, clock.onsets, clock.ends, strict=True)]
    return [*packs, Word(None, clock.duration, None, clocked)]


def write_tokens(scanpath: Scanpath, timing: SpeechTiming | None, *, clocked: bool = True) -> list[dict[str, Any]]:
    """Convert a recorded scanpath on the canvas: one record per token, with the event that followed it.

    Raises:
        ValueError: the canvas has another size, or the scanpath has no fixations.
    """
    if (scanpath.width, scanpath.height) != CANVAS:
        raise ValueError(
            f"scanpath over {scanpath.width} x {scanpath.height} px, expected the canvas of {CANVAS[0]} x {CANVAS[1]}"
        )
    if not scanpath.fixations:
        raise ValueError(f"scanpath of {scanpath.image or 'a picture'}: no fixations, expected at least one")
    history, tokens, decided = EventHistory(), [], False
    total = len(scanpath.fixations)
    for word, pack in zip(pack_words(scanpath.words, timing, clocked=clocked), scanpath.packs, strict=True):
        history.begin_pack(word)
        upcoming = [*pack.fixations, None]
        for number, following in enumerate(upcoming):
            token = _token(history, is_fixation=number > 0, following=following)
            over = len(history.fixations) == total
            if history.fixations and not decided and (following is not None or history.is_due):
                decided = True
                token |= {"decides": True, "stops": over}
                if not over:
                    token["gap"] = max(scanpath.fixations[len(history.fixations)].start - history.end, MIN_GAP)
                token["label"] = Next.STOP if over else token["label"]
            elif over and decided:
                token["label"] = NO_LABEL  # viewing has ended
            tokens.append(token)
            if following is not None:
                token["is_last"] = len(history.fixations) + 1 == total
                history.add(following)
                decided = False
    return tokens


def _token(history: EventHistory, *, is_fixation: bool, following: Fixation | None) -> dict[str, Any]:
    """Build a token with the defaults of an undecided step; `write_tokens` fills in the decision."""
    target = (0.0, 0.0, 0.0, 1.0)
    if following is not None:
        target = (following.x, following.y, following.start, max(following.duration, 1.0))
    return {
        "facts": history.facts(is_fixation=is_fixation),
        "packs": history.pack,
        "label": Next.FIXATION if following is not None else Next.PACK,
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
    """Pad the tokens of B scanpaths into one batch.

    Args:
        rows: B token lists from `write_tokens`.
        beliefs: B target maps (P, g h, g w), 0..1.
        states: (B, P, D) language-model states.
    """
    length, packs = max(map(len, rows)), max(map(len, beliefs))
    kinds: dict[str, torch.dtype] = {"packs": torch.long, "label": torch.long} | dict.fromkeys(FLAGS, torch.bool)
    empty = _token(EventHistory(pack=0), is_fixation=False, following=None) | {"label": NO_LABEL}
    columns: dict[str, Any] = {}
    for name, blank in empty.items():
        filled = [[token[name] for token in row] + [blank] * (length - len(row)) for row in rows]
        columns[name] = torch.tensor(filled, dtype=kinds.get(name, torch.float32))
    valid = torch.tensor([[place < len(row) for place in range(length)] for row in rows])
    maps = torch.stack([torch.cat([one, one[-1:].expand(packs - len(one), -1, -1)]) for one in beliefs])
    return EventBatch(valid=valid, beliefs=maps, states=states, **columns)
