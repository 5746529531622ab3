"""Saliency metrics of fixation maps, CC and NSS, per pack or per image.

Flow: fixations -> fixation_map -> blurred -> correlation, nss; score_packs for spoken expressions, score_image for
    images without words. score_packs never rasterizes a map: a blurred fixation is an outer product of a column and a
    row, so sums over the canvas become sums over pairs of fixations.
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
TINY = 1e-9  # defines CC for flat maps: 1 for two flat maps, 1e-9 for one

Map = NDArray[np.float64]


def fixation_map(points: ArrayLike, width: int, height: int, *, counts: bool = False) -> Map:
    """Rasterize fixations.

    Args:
        points: (K, 2) xy, px, clamped to the canvas.
        width: W, px.
        height: H, px.
        counts: Count repeated fixations instead of marking a pixel once.

    Returns:
        (H, W), 0 without a fixation.
    """
    marked = np.zeros((height, width))
    places = pixel_indices(points, width, height)
    if counts:
        np.add.at(marked, places, 1.0)
    else:
        marked[places] = 1.0
    return marked


def blurred(marked: Map, sigma: float = SIGMA) -> Map:
    """Blur a fixation map with a Gaussian truncated at 4 sigma and mirrored at the edges, and scale by 255.

    Args:
        marked: (H, W).
        sigma: SD, px.
    """
    size = _kernel_size(sigma)
    return 255 * cv2.GaussianBlur(marked, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101).astype(float)


def _kernel_size(sigma: float) -> int:
    return 2 * int(4 * sigma + 0.5) + 1


def correlation(one: Map, other: Map) -> float:
    """Compute CC: the Pearson correlation of two maps (H, W); 1 for two flat maps, 0 (1e-9) if one is flat.

    Returns:
        -1..1, higher is better.
    """
    if one.shape != other.shape:
        raise ValueError(f"maps to compare differ in shape: {one.shape} and {other.shape}")
    return _agreement(standardized(one), standardized(other))


def nss(saliency: Map, marked: Map) -> float:
    """Compute normalized scanpath saliency: the standardized map averaged over fixations.

    Args:
        saliency: (H, W) predicted map.
        marked: (H, W) counts of human fixations.

    Returns:
        Standard deviations above the mean, higher is better; nan without fixations.
    """
    return _mean_at(standardized(saliency), marked)


def standardized(values: Map) -> Map:
    """Scale a map to mean 0 and standard deviation 1; a flat map becomes 0."""
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

    cc_samples: tuple[tuple[float, ...], ...]  # per pack of the longest human scanpath: one value per sample
    nss_people: tuple[tuple[tuple[float, ...], ...], ...]  # per pack, per person: one value per sample, or ()

    @property
    def cc(self) -> float:
        """Mean over samples, then over packs."""
        return float(np.mean([np.mean(samples) for samples in self.cc_samples]))

    @property
    def nss(self) -> float:
        """Mean over samples, then over people with a fixation in that pack, then over packs; nan without fixations."""
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
    """Compare sampled scanpaths with people's, pack by pack.

    Args:
        preds: S samples, each a list of packs (K, 2) xy, px.
        humans: P people, each a list of packs.
        width: W of the canvas, px.
        height: H of the canvas, px.
        sigma: SD of the blur, px.
        pooled: Score the mean map of all samples instead of each sample's own map.
        published: Exclude a sample from packs after its last one, as the published code does. This favors samples that
            end early. Otherwise such packs count as empty.

    Raises:
        ValueError: there are no samples or no people.
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
    """A sparse fixation map."""

    rows: NDArray[np.intp]  # (K,) of the nonzero pixels
    columns: NDArray[np.intp]  # (K,)
    weights: NDArray[np.float64]  # (K,) values


def _mark(packs: Sequence[ArrayLike], width: int, height: int) -> _Marks:
    """Average the fixation maps of several packs, in each of which a pixel counts once."""
    pixels: dict[tuple[int, int], float] = {}
    for points in packs:
        pairs = as_points(points).tolist()
        places = {(_nearest(y, height), _nearest(x, width)) for x, y in pairs}
        for place in places:
            pixels[place] = pixels.get(place, 0.0) + 1 / len(packs)
    marked = np.array(list(pixels), np.intp).reshape(-1, 2)
    return _Marks(marked[:, 0], marked[:, 1], np.array(list(pixels.values()), float))


def _nearest(coordinate: float, size: int) -> int:
    """Return the pixel of a coordinate, as pixel_indices does; scalar code is faster for a few fixations."""
    return min(max(math.floor(coordinate), 0), size - 1)


@dataclass(frozen=True)
class _Smooth:
    """A blurred fixation map in sparse form."""

    marks: _Marks
    mean: float
    spread: float  # standard deviation


@dataclass(frozen=True, eq=False)
class _Blurring:
    """Blur matrices of rows and columns with their inner products."""

    across: Map  # (W, W) [i, j]: value at column i of a blurred unit impulse at column j
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
        """Compute `_agreement` of the two standardized maps."""
        scales = one.spread + TINY, other.spread + TINY
        shared = (self.product(one.marks, other.marks) - one.mean * other.mean) / (scales[0] * scales[1])
        lengths = [(blurry.spread / scale) ** 2 for blurry, scale in zip((one, other), scales, strict=True)]  # 1 or 0
        return (shared + TINY**2) / math.sqrt((lengths[0] + TINY**2) * (lengths[1] + TINY**2))

    def nss(self, maps: Sequence[_Smooth], people: Sequence[_Marks]) -> tuple[tuple[float, ...], ...]:
        """Compute `_mean_at` of each standardized map at each person's fixations; () for a person without fixations."""
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
    """Compute CC and NSS of one image without words, from fixation counts pooled over samples and over people.

    Args:
        preds: S arrays (K, 2) xy, px.
        humans: P arrays.
        width: W of the canvas, px.
        height: H of the canvas, px.
        sigma: SD of the blur, px.

    Returns:
        CC, NSS.
    """
    ours, theirs = (
        fixation_map(np.concatenate([np.zeros((0, 2)), *map(as_points, paths)]), width, height, counts=True)
        for paths in (preds, humans)
    )
    saliency = blurred(ours, sigma)
    return correlation(saliency, blurred(theirs, sigma)), nss(saliency, theirs)
