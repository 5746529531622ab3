"""Score where fixations fall, not their order: correlation and NSS of blurred fixation maps, per pack or per image.

Flow: fixations -> fixation_map -> blurred -> correlation, nss; score_packs per case of spoken words,
    score_image where a picture is looked at without words. A pack has so few fixations that score_packs never draws
    a map: a blurred fixation is a column times a row, and every sum over the canvas is a sum over pairs of them.
Source: Bylinskii et al., TPAMI 2019 (CC, NSS); RefCOCO-Gaze, arXiv:2407.19605 (per word, sigma 9 px of 512 x 320).
Shapes: H W canvas, K fixations, S samples of a model, P people.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.gaze.metrics.strings import as_points, pixel_indices

SIGMA = 9.0  # px of the 512 x 320 canvas, about one degree of visual angle
TINY = 1e-9  # keeps flat maps defined: two of them correlate by 1, one of them with anything else by 1e-9

Map = NDArray[np.float64]


def fixation_map(points: ArrayLike, width: int, height: int, *, counts: bool = False) -> Map:
    """Mark the pixels that were fixated.

    Args:
        points: (K, 2) xy, px; beyond the canvas means its nearest pixel.
        width: W.
        height: H.
        counts: add up repeated fixations instead of marking a pixel once.

    Returns:
        (H, W), 0 where nobody looked.
    """
    marked = np.zeros((height, width))
    places = pixel_indices(points, width, height)
    if counts:
        np.add.at(marked, places, 1.0)
    else:
        marked[places] = 1.0
    return marked


def blurred(marked: Map, sigma: float = SIGMA) -> Map:
    """Smooth a fixation map with a Gaussian, cut off at 4 sigma and mirrored at the edges, times 255.

    Args:
        marked: (H, W).
        sigma: px.
    """
    size = _kernel_size(sigma)
    return 255 * cv2.GaussianBlur(marked, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101).astype(float)


def _kernel_size(sigma: float) -> int:
    return 2 * int(4 * sigma + 0.5) + 1


def correlation(one: Map, other: Map) -> float:
    """CC: Pearson correlation of two maps (H, W); 1 for two flat maps, 0 (1e-9) when one is flat.

    Returns:
        -1..1, higher is better.
    """
    if one.shape != other.shape:
        raise ValueError(f"maps to compare differ in shape: {one.shape} and {other.shape}")
    return _agreement(standardised(one), standardised(other))


def nss(saliency: Map, marked: Map) -> float:
    """Normalised scanpath saliency: the standardised map, averaged over fixations.

    Args:
        saliency: (H, W), what a prediction says.
        marked: (H, W) fixations of a person, weighted by their counts.

    Returns:
        Standard deviations above the mean, higher is better; nan when nothing was fixated.
    """
    return _mean_at(standardised(saliency), marked)


def standardised(values: Map) -> Map:
    """Mean 0 and standard deviation 1; a flat map becomes 0."""
    return (values - values.mean()) / (values.std() + TINY)


def _agreement(one: Map, other: Map) -> float:
    left, right = one.ravel() + TINY, other.ravel() + TINY
    return float(left @ right / np.sqrt((left @ left) * (right @ right)))


def _mean_at(values: Map, marked: Map) -> float:
    places = np.nonzero(marked)
    return float(np.average(values[places], weights=marked[places])) if places[0].size else float("nan")


@dataclass(frozen=True, kw_only=True)
class PackMaps:
    """CC and NSS of one case, pack by pack."""

    cc_samples: tuple[tuple[float, ...], ...]  # per pack that anyone has: one value per sample
    nss_people: tuple[tuple[tuple[float, ...], ...], ...]  # per pack, per person: one value per sample, or ()

    @property
    def cc(self) -> float:
        """Mean over samples, then over packs."""
        return float(np.mean([np.mean(samples) for samples in self.cc_samples]))

    @property
    def nss(self) -> float:
        """Mean over samples, then over people who fixated in that pack, then over packs; nan if nobody ever did."""
        packs = [[np.mean(samples) for samples in people if samples] for people in self.nss_people]
        means = [np.mean(values) for values in packs if values]
        return float(np.mean(means)) if means else float("nan")


def score_packs(
    preds: Sequence[Sequence[ArrayLike]],
    humans: Sequence[Sequence[ArrayLike]],
    width: int,
    height: int,
    *,
    sigma: float = SIGMA,
    pooled: bool = False,
    published: bool = False,
) -> PackMaps:
    """Compare sampled scanpaths with people's, word by word.

    Args:
        preds: S samples, each a list of packs (K, 2) xy, px.
        humans: P people, each a list of packs.
        width: W of the canvas.
        height: H.
        sigma: of the blur, px.
        pooled: score the mean map of all samples, what the model believes, instead of each sample's own map.
        published: leave a sample that ended before a pack out of that pack, as the published code does, which
            favours ending early. Otherwise its pack is an empty one.

    Raises:
        ValueError: no sample or nobody to compare with.
    """
    if not preds or not humans:
        raise ValueError(f"maps: {len(preds)} samples and {len(humans)} people, expected at least one each")
    canvas = _blurring(width, height, sigma)
    cc_samples, nss_people = [], []
    for pack in range(max(len(human) for human in humans)):
        present = [human[pack] for human in humans if len(human) > pack]
        reached = [pred[pack] for pred in preds if len(pred) > pack]
        ours = reached if published else [*reached, *[np.zeros((0, 2))] * (len(preds) - len(reached))]
        ours = ours or [np.zeros((0, 2))]
        groups = [ours] if pooled else [[points] for points in ours]
        maps = [canvas.smooth(_mark(group, width, height)) for group in groups]
        everyone = canvas.smooth(_mark(present, width, height))
        cc_samples.append(tuple(canvas.correlation(one, everyone) for one in maps))
        nss_people.append(canvas.nss(maps, [_mark([points], width, height) for points in present]))
    return PackMaps(cc_samples=tuple(cc_samples), nss_people=tuple(nss_people))


@dataclass(frozen=True)
class _Marks:
    """A fixation map that is 0 almost everywhere."""

    rows: NDArray[np.intp]  # (K,) of the pixels that are not 0
    columns: NDArray[np.intp]  # (K,)
    weights: NDArray[np.float64]  # (K,) values there


def _mark(packs: Sequence[ArrayLike], width: int, height: int) -> _Marks:
    """Return the mean of the fixation maps of several packs, in which a pixel counts once."""
    pixels: dict[tuple[int, int], float] = {}
    for points in packs:
        pairs = as_points(points).tolist()
        places = {(_nearest(y, height), _nearest(x, width)) for x, y in pairs}
        for place in places:
            pixels[place] = pixels.get(place, 0.0) + 1 / len(packs)
    marked = np.array(list(pixels), np.intp).reshape(-1, 2)
    return _Marks(marked[:, 0], marked[:, 1], np.array(list(pixels.values()), float))


def _nearest(coordinate: float, size: int) -> int:
    """Pixel under a coordinate, as pixel_indices has it; a pack has too few for arrays to be worth while."""
    return min(max(math.floor(coordinate), 0), size - 1)


@dataclass(frozen=True)
class _Smooth:
    """A blurred fixation map, never drawn."""

    marks: _Marks
    mean: float
    spread: float  # standard deviation


@dataclass(frozen=True, eq=False)
class _Blurring:
    """What blurring does to single rows and columns, and all inner products of the results."""

    across: Map  # (W, W) value at the first column of a blurred 1 at the second
    down: Map  # (H, H) the same for rows
    across_sums: Map  # (W,) over all columns
    down_sums: Map  # (H,)
    across_products: Map  # (W, W)
    down_products: Map  # (H, H)

    def smooth(self, marks: _Marks) -> _Smooth:
        num_pixels = len(self.across) * len(self.down)
        mean = float(marks.weights @ (self.down_sums[marks.rows] * self.across_sums[marks.columns])) / num_pixels
        return _Smooth(marks, mean, math.sqrt(max(self.product(marks, marks) - mean**2, 0.0)))

    def product(self, one: _Marks, other: _Marks) -> float:
        """Return the mean over all pixels of the product of two blurred maps."""
        pairs = (
            self.down_products[one.rows[:, None], other.rows]
            * self.across_products[one.columns[:, None], other.columns]
        )
        return float(one.weights @ pairs @ other.weights) / (len(self.across) * len(self.down))

    def correlation(self, one: _Smooth, other: _Smooth) -> float:
        """As _agreement has it of the two standardised maps."""
        scales = one.spread + TINY, other.spread + TINY
        shared = (self.product(one.marks, other.marks) - one.mean * other.mean) / (scales[0] * scales[1])
        lengths = [(blurry.spread / scale) ** 2 for blurry, scale in zip((one, other), scales, strict=True)]  # 1 or 0
        return (shared + TINY**2) / math.sqrt((lengths[0] + TINY**2) * (lengths[1] + TINY**2))

    def nss(self, maps: Sequence[_Smooth], people: Sequence[_Marks]) -> tuple[tuple[float, ...], ...]:
        """As _mean_at has it of each standardised map at what each person fixated; () for who fixated nothing."""
        rows = np.concatenate([marked.rows for marked in people])
        columns = np.concatenate([marked.columns for marked in people])
        ends = np.cumsum([len(marked.rows) for marked in people])
        values = []  # per map, (K,) at all people's fixations
        for one in maps:
            marks = one.marks
            heights = self.down[rows[:, None], marks.rows] * self.across[columns[:, None], marks.columns]
            values.append((heights @ marks.weights - one.mean) / (one.spread + TINY))
        pieces = [np.split(row, ends[:-1]) for row in values]
        return tuple(
            tuple(float(piece[person].mean()) for piece in pieces) if len(marked.rows) else ()
            for person, marked in enumerate(people)
        )


@lru_cache(maxsize=8)
def _blurring(width: int, height: int, sigma: float) -> _Blurring:
    kernel = (1, _kernel_size(sigma))
    across, down = (
        np.sqrt(255) * cv2.GaussianBlur(np.eye(size), kernel, sigma, borderType=cv2.BORDER_REFLECT_101).astype(float)
        for size in (width, height)
    )
    return _Blurring(across, down, across.sum(0), down.sum(0), across.T @ across, down.T @ down)


def score_image(
    preds: Sequence[ArrayLike], humans: Sequence[ArrayLike], width: int, height: int, *, sigma: float = SIGMA
) -> tuple[float, float]:
    """CC and NSS of one image without words: all fixations pooled, repeated ones counted.

    Args:
        preds: S arrays (K, 2) xy, px.
        humans: P arrays.
        width: W of the canvas.
        height: H.
        sigma: of the blur, px.

    Returns:
        CC, NSS.
    """
    ours, theirs = (
        fixation_map(np.concatenate([np.zeros((0, 2)), *map(as_points, paths)]), width, height, counts=True)
        for paths in (preds, humans)
    )
    saliency = blurred(ours, sigma)
    return correlation(saliency, blurred(theirs, sigma)), nss(saliency, theirs)
