"""Represent a scanpath: fixations over one image, grouped into one pack per spoken word.

Flow: a dataset or a model -> Fixation -> Pack -> Scanpath -> metrics/ (as arrays), JSON files, drawings.
Source: RefCOCO-Gaze, Mondal et al., ECCV 2024, arXiv:2407.19605 (packs).
Shapes: N words, K fixations of a scanpath or a pack, x before y.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.timing import SpeechTiming, pack_indices

MIN_DURATION = 1.0  # ms, resolution of a 1000 Hz eye tracker, which reports shorter fixations as 0
COORDINATES = ("x", "y", "start", "duration")


@dataclass(frozen=True)
class Fixation:
    """One fixation."""

    x: float  # px from the left edge of the stimulus
    y: float  # px from its upper edge
    start: float  # ms from the onset of the speech, or of the image without speech
    duration: float  # ms; 0 if below the tracker's resolution

    def __post_init__(self) -> None:
        for name in COORDINATES:
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"fixation: {name} is {getattr(self, name)}, expected a finite number")
        if self.duration < 0:
            raise ValueError(f"fixation: duration is {self.duration} ms, expected at least 0")

    @property
    def log_duration(self) -> float:
        """Natural logarithm of the duration in ms, at least log(MIN_DURATION)."""
        return math.log(max(self.duration, MIN_DURATION))


@dataclass(frozen=True)
class Pack:
    """The fixations that begin while one word is spoken, often none."""

    fixations: tuple[Fixation, ...] = ()
    word: str | None = None  # None before the first word and after the last one

    def __len__(self) -> int:
        return len(self.fixations)

    @property
    def points(self) -> NDArray[np.float64]:
        """(K, 2) xy, px."""
        return np.array([(fixation.x, fixation.y) for fixation in self.fixations], float).reshape(-1, 2)


@dataclass(frozen=True, kw_only=True)
class Scanpath:
    """N + 2 packs over one stimulus: before the first word, one per word, after the last word."""

    packs: tuple[Pack, ...]
    width: int  # px of the stimulus; fixations may lie outside it
    height: int
    image: str = ""  # file name of the stimulus

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"scanpath: stimulus of {self.width} x {self.height} px, expected at least 1 x 1")
        words = [pack.word for pack in self.packs]
        spoken = all(isinstance(word, str) and word for word in words[1:-1])
        if len(words) < 2 or words[0] is not None or words[-1] is not None or not spoken:
            raise ValueError(f"scanpath: packs of {words}, expected None, one word each, None")
        starts = [fixation.start for fixation in self.fixations]
        for earlier, later in zip(starts, starts[1:], strict=False):
            if later < earlier:
                raise ValueError(f"scanpath: a fixation at {later} ms follows one at {earlier} ms, expected time order")

    @property
    def words(self) -> tuple[str, ...]:
        """The N spoken words."""
        return tuple(pack.word or "" for pack in self.packs[1:-1])

    @property
    def fixations(self) -> tuple[Fixation, ...]:
        """All K fixations in order."""
        return tuple(fixation for pack in self.packs for fixation in pack.fixations)

    @property
    def points(self) -> NDArray[np.float64]:
        """(K, 2) xy, px, all packs in order."""
        return np.concatenate([pack.points for pack in self.packs])

    @property
    def pack_points(self) -> list[NDArray[np.float64]]:
        """N + 2 arrays (K, 2), xy, px."""
        return [pack.points for pack in self.packs]

    @property
    def starts(self) -> NDArray[np.float64]:
        """(K,) ms."""
        return np.array([fixation.start for fixation in self.fixations], float)

    @property
    def durations(self) -> NDArray[np.float64]:
        """(K,) ms."""
        return np.array([fixation.duration for fixation in self.fixations], float)

    @property
    def sizes(self) -> list[int]:
        """Number of fixations in each of the N + 2 packs."""
        return [len(pack) for pack in self.packs]

    @classmethod
    def from_packs(
        cls,
        fixations: Sequence[Fixation],
        indices: Sequence[int],
        words: Sequence[str],
        *,
        width: int,
        height: int,
        image: str = "",
    ) -> Self:
        """Group fixations into packs by their pack index.

        Args:
            fixations: K, in time order.
            indices: K pack indices, 0..N + 1, non-decreasing.
            words: N.
            width: Width of the stimulus, px.
            height: Height of the stimulus, px.
            image: File name of the stimulus.
        """
        names = (None, *words, None)
        if len(fixations) != len(indices):
            raise ValueError(
                f"scanpath: {len(fixations)} fixations and {len(indices)} pack indices, expected equal counts"
            )
        if any(not 0 <= index < len(names) for index in indices):
            raise ValueError(f"scanpath: pack indices {list(indices)}, expected 0..{len(names) - 1}")
        if any(later < earlier for earlier, later in zip(indices, indices[1:], strict=False)):
            raise ValueError(f"scanpath: pack indices {list(indices)}, expected a non-decreasing order")
        groups: list[list[Fixation]] = [[] for _ in names]
        for fixation, index in zip(fixations, indices, strict=True):
            groups[index].append(fixation)
        packs = tuple(Pack(tuple(group), word) for group, word in zip(groups, names, strict=True))
        return cls(packs=packs, width=width, height=height, image=image)

    @classmethod
    def from_timing(
        cls,
        fixations: Sequence[Fixation],
        words: Sequence[str],
        timing: SpeechTiming,
        *,
        width: int,
        height: int,
        image: str = "",
    ) -> Self:
        """Group fixations by speech timing: each belongs to the word spoken at the fixation's onset."""
        if len(words) != len(timing.onsets):
            raise ValueError(f"scanpath: {len(words)} words and {len(timing.onsets)} onsets, expected equal counts")
        indices = pack_indices([fixation.start for fixation in fixations], timing)
        return cls.from_packs(fixations, indices, words, width=width, height=height, image=image)

    def to_json(self) -> dict[str, Any]:
        """Convert to a JSON record: "image", "words" and "packs" of fixations, px of the image and ms."""
        packs = [[asdict(fixation) for fixation in pack.fixations] for pack in self.packs]
        return {"image": self.image, "words": list(self.words), "packs": packs}

    @classmethod
    def from_json(cls, record: Mapping[str, Any], *, width: int, height: int) -> Self:
        """Parse a record of `to_json`, which does not hold the image size.

        Raises:
            ValueError: a key is missing, the packs do not match the words, or a value is no number.
        """
        for key, kind in {"image": str, "words": list, "packs": list}.items():
            if not isinstance(record.get(key), kind):
                raise ValueError(f"scanpath record: {key!r} is {record.get(key)!r:.40}, expected a {kind.__name__}")
        words, packs = record["words"], record["packs"]
        if len(packs) != len(words) + 2:
            raise ValueError(
                f"scanpath record: {len(packs)} packs, expected {len(words) + 2} (one per word, one before, one after)"
            )
        names = (None, *words, None)
        filled = tuple(_read_pack(items, word) for items, word in zip(packs, names, strict=True))
        return cls(packs=filled, width=width, height=height, image=record["image"])

    def with_points(self, points: NDArray[np.float64], width: int, height: int) -> Self:
        """Copy the scanpath with other fixation positions.

        Args:
            points: (K, 2) xy, px of the new stimulus.
            width: Width of the new stimulus, px.
            height: Height of the new stimulus, px.
        """
        places = iter(np.asarray(points, float).tolist())
        packs = []
        for pack in self.packs:
            pairs = [(fixation, next(places)) for fixation in pack.fixations]
            packs.append(replace(pack, fixations=tuple(replace(one, x=x, y=y) for one, (x, y) in pairs)))
        return replace(self, packs=tuple(packs), width=width, height=height)


def _read_pack(items: Any, word: str | None) -> Pack:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"scanpath record: a pack is {items!r:.40}, expected a list of fixations")
    return Pack(tuple(_read_fixation(item) for item in items), word)


def _read_fixation(item: Mapping[str, Any]) -> Fixation:
    for name in COORDINATES:
        if isinstance(item.get(name), bool) or not isinstance(item.get(name), int | float):
            raise ValueError(f"scanpath record: a fixation has {name} {item.get(name)!r:.40}, expected a number")
    return Fixation(*(float(item[name]) for name in COORDINATES))
