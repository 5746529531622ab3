"""Augment pictures, clips and their masks: mirror, crop, color.

Flow: StoredDataset -> Augmented -> augment each sample with the generator of its draw -> Sample, whose frames and masks
    are decoded and changed on demand. Words of place stay true: "left" and "right" are swapped in a mirrored sample,
    and a sample with any word of place is not cropped.
Shapes: T frames, H W picture, h w crop, n objects, K frames.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va.data.stored import Draw, Extent, StoredDataset
from sa2va.types import Frames, FrameSource, Masks, MaskTracks, Sample, Span, Turn

LEAST_KEPT = 0.3  # share of an object's pixels that a crop must keep for its turn to stay
CROP_TRIES = 8
SIDES = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
_SIDE = re.compile(rf"\b({'|'.join(SIDES)})\b", re.IGNORECASE)
# Words that a crop can make false: of place, of rank among the objects of the picture, and numbers of them.
_PLACE = re.compile(
    r"\b(left|right|top|bottom|upper|lower|middle|cent(?:er|re)|corner|edge|side|above|below|under|behind|front|near|"
    r"nearest|next|between|first|second|third|last|background|foreground|\w+most|largest|smallest|biggest|only|"
    r"two|three|four|five|six|seven|eight|nine|ten|\d+)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Strength of each augmentation; the defaults change nothing."""

    flip: float = 0.0  # probability that a sample is mirrored
    crop: float = 1.0  # smallest share of a picture's area that a crop keeps; 1 = no crop. Clips are not cropped.
    color: float = 0.0  # largest relative change of brightness, contrast and saturation; the hue turns by a tenth of it

    def __post_init__(self) -> None:
        for name, low, high in (("flip", 0, 1), ("crop", 0.01, 1), ("color", 0, 0.9)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"augment: {name} is {getattr(self, name)}; expected {low} to {high}")

    @property
    def changes_nothing(self) -> bool:
        return self == AugmentConfig()


@dataclass(frozen=True, kw_only=True)
class View:
    """Geometry and color of one augmented sample."""

    box: tuple[int, int, int, int]  # x0, y0, x1, y1 px of the crop
    flip: bool
    color: tuple[float, float, float, float]  # factors of brightness, contrast, saturation; turn of the hue, 0..1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the view, px."""
        return self.box[3] - self.box[1], self.box[2] - self.box[0]

    def place(self, array: NDArray[np.generic], rows: int) -> NDArray[np.generic]:
        """Crop and mirror an array whose axes `rows` and `rows` + 1 are those of the picture."""
        x0, y0, x1, y1 = self.box
        lead = (slice(None),) * rows
        seen = array[(*lead, slice(y0, y1), slice(x0, x1))]
        return np.ascontiguousarray(np.flip(seen, rows + 1) if self.flip else seen)


@dataclass(frozen=True)
class ViewedFrames:
    """Frames of a source through a view."""

    source: FrameSource
    view: View

    @property
    def num_frames(self) -> int | None:
        return self.source.num_frames

    @property
    def height(self) -> int:
        return self.view.size[0]

    @property
    def width(self) -> int:
        return self.view.size[1]

    def frames(self, indices: Sequence[int]) -> Frames:
        """Return the frames at K indices, uint8 (K, h, w, 3)."""
        seen = self.view.place(self.source.frames(indices), 1)
        if self.view.color == (1, 1, 1, 0):
            return seen.astype(np.uint8, copy=False)
        return np.stack([change_color(frame, *self.view.color) for frame in seen])


@dataclass(frozen=True)
class ViewedTracks:
    """Mask tracks through a view."""

    source: MaskTracks
    view: View

    def __len__(self) -> int:
        return len(self.source)

    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks:
        """Return masks of n objects on K frames, bool (n, K, h, w)."""
        return self.view.place(self.source.masks(objects, frames), 2).astype(bool, copy=False)


class Augmented(StoredDataset[Any]):
    """Stored dataset seen through random views: another one for each record and epoch."""

    def __init__(self, dataset: StoredDataset[Any], config: AugmentConfig) -> None:
        super().__init__(dataset.name, dataset.records, dataset.config, dataset.left_out)
        self.dataset, self.augmentation = dataset, config

    def build_sample(self, record: Any, draw: Draw) -> Sample:
        return augment(self.dataset.build_sample(record, draw), self.augmentation, draw.rng)

    def describe(self, record: Any) -> str:
        return self.dataset.describe(record)

    def extent(self, index: int) -> Extent:
        return self.dataset.extent(index)


def augment(sample: Sample, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """Return a sample seen through a random view.

    A turn whose objects are mostly cropped away is left out; a crop that would leave no turn is drawn again. Turns with
    regions, and samples of several pictures, are returned unchanged.

    Args:
        sample: of any kind.
        config: strength of each augmentation.
        rng: the view is a pure function of its state.
    """
    if config.changes_nothing or len(sample.media) != 1 or any(turn.regions for turn in sample.turns):
        return sample
    media = sample.media[0]
    color = _draw_color(config.color, rng)
    flip = bool(rng.random() < config.flip)
    box, turns = (0, 0, media.width, media.height), sample.turns
    if config.crop < 1 and sample.num_frames == 1 and all(_may_be_cropped(turn) for turn in turns):
        box, turns = _draw_crop(sample, config.crop, rng)
    view = View(box=box, flip=flip, color=color)
    if flip:
        turns = tuple(map(swap_sides, turns))
    return replace(sample, turns=turns, media=(ViewedFrames(media, view),), tracks=ViewedTracks(sample.tracks, view))


def swap_sides(turn: Turn) -> Turn:
    """Swap "left" and "right" in a question and its answer, and move the spans with their words."""
    places = [0]  # index of each character of the answer in the new answer

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        new = SIDES[word.lower()]
        return new.upper() if word.isupper() else new.capitalize() if word[0].isupper() else new

    places = list(range(len(turn.answer) + 1))
    shift = 0
    for match in _SIDE.finditer(turn.answer):
        longer = len(swap(match)) - len(match.group())
        for index in range(match.end(), len(places)):
            places[index] += longer
        shift += longer
    spans = tuple(Span(start=places[s.start], end=places[s.end], objects=s.objects) for s in turn.spans)
    return replace(turn, question=_SIDE.sub(swap, turn.question), answer=_SIDE.sub(swap, turn.answer), spans=spans)


def change_color(
    frame: NDArray[np.uint8], brightness: float, contrast: float, saturation: float, hue: float
) -> NDArray[np.uint8]:
    """Change the colors of a picture.

    Args:
        frame: (H, W, 3), RGB.
        brightness, contrast, saturation: factors; 1 changes nothing.
        hue: turn of the color circle, 0..1; 0 changes nothing.
    """
    if hue:
        turned = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL)
        turned[..., 0] += np.uint8(round(256 * hue) % 256)  # the circle has 256 steps, as the type
        frame = cv2.cvtColor(turned, cv2.COLOR_HSV2RGB_FULL).astype(np.uint8, copy=False)
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    mean = float(gray.mean())
    mixed = cv2.addWeighted(frame, saturation, cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), 1 - saturation, 0)
    levels = brightness * (mean + contrast * (np.arange(256) - mean))
    return cv2.LUT(mixed, levels.round().clip(0, 255).astype(np.uint8)).astype(np.uint8, copy=False)


def _may_be_cropped(turn: Turn) -> bool:
    return bool(turn.spans) and not _PLACE.search(turn.question) and not _PLACE.search(turn.answer)


def _draw_color(strength: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    low, high = 1 - strength, 1 + strength
    brightness, contrast, saturation = (float(value) for value in rng.uniform(low, high, 3))
    return brightness, contrast, saturation, float(rng.uniform(-0.1, 0.1)) * strength


def _draw_crop(
    sample: Sample, least: float, rng: np.random.Generator
) -> tuple[tuple[int, int, int, int], tuple[Turn, ...]]:
    """Draw a crop and the turns whose objects it shows; the whole picture if no crop shows any."""
    media = sample.media[0]
    height, width = media.height, media.width
    named = sorted({index for turn in sample.turns for span in turn.spans for index in span.objects})
    masks = sample.tracks.masks(named, [0])[:, 0]
    areas = np.count_nonzero(masks, axis=(1, 2))
    for _ in range(CROP_TRIES):
        share = rng.uniform(least, 1)
        aspect = np.exp(rng.uniform(-0.3, 0.3))
        h = min(height, max(8, round(height * np.sqrt(share / aspect))))
        w = min(width, max(8, round(width * np.sqrt(share * aspect))))
        x0, y0 = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        kept = np.count_nonzero(masks[:, y0 : y0 + h, x0 : x0 + w], axis=(1, 2))
        shown = dict(zip(named, kept >= np.maximum(LEAST_KEPT * areas, 1), strict=True))
        turns = tuple(t for t in sample.turns if all(shown[i] for span in t.spans for i in span.objects))
        if turns:
            return (x0, y0, x0 + w, y0 + h), turns
    return (0, 0, width, height), sample.turns
