"""Score where fixations fall, not their order: correlation and NSS of blurred fixation maps, per pack or per image.

Flow: fixations -> fixation_map -> blurred -> correlation, nss; score_packs per case of spoken words,
    score_image where a picture is looked at without words. A pack has so few fixations that score_packs never draws
    a map: a blurred fixation is a column times a row, and every sum over the canvas is a sum over pairs of them.
Source: Bylinskii et al., TPAMI 2019 (CC, NSS); RefCOCO-Gaze, arXiv:2407.19605 (per word, sigma 9 px of 512 x 320).
Shapes: H W canvas, K fixations, S samples of a model, P people.
"""

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
        theirs = [_mark([human[pack]], width, height) for human in humans if len(human) > pack]
        reached = [pred[pack] for pred in preds if len(pred) > pack]
        ours = reached if published else [*reached, *[np.zeros((0, 2))] * (len(preds) - len(reached))]
        ours = ours or [np.zeros((0, 2))]
        marks = [_mark(ours, width, height)] if pooled else [_mark([points], width, height) for points in ours]
        everyone = _mark([human[pack] for human in humans if len(human) > pack], width, height)
        cc_samples.append(tuple(canvas.correlation(one, everyone) for one in marks))
        nss_people.append(
            tuple(tuple(canvas.nss(one, marked) for one in marks) if len(marked.weights) else () for marked in theirs)
        )
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
        rows, columns = pixel_indices(points, width, height)
        for place in set(zip(rows.tolist(), columns.tolist(), strict=True)):
            pixels[place] = pixels.get(place, 0.0) + 1 / len(packs)
    places = np.array(list(pixels), np.intp).reshape(-1, 2)
    return _Marks(places[:, 0], places[:, 1], np.array(list(pixels.values()), float))


@dataclass(frozen=True, eq=False)
class _Blurring:
    """What blurring does to single rows and columns, and all inner products of the results."""

    across: Map  # (W, W) value at the first column of a blurred 1 at the second
    down: Map  # (H, H) the same for rows
    across_products: Map  # (W, W)
    down_products: Map  # (H, H)

    @property
    def num_pixels(self) -> int:
        return len(self.across) * len(self.down)

    def mean(self, one: _Marks) -> float:
        sums = self.down.sum(0)[one.rows] * self.across.sum(0)[one.columns]
        return float(one.weights @ sums) / self.num_pixels

    def product(self, one: _Marks, other: _Marks) -> float:
        """Return the mean over all pixels of the product of two blurred maps."""
        pairs = (
            self.down_products[np.ix_(one.rows, other.rows)] * self.across_products[np.ix_(one.columns, other.columns)]
        )
        return float(one.weights @ pairs @ other.weights) / self.num_pixels

    def spread(self, one: _Marks) -> float:
        """Return the standard deviation of a blurred map."""
        return float(np.sqrt(max(self.product(one, one) - self.mean(one) ** 2, 0.0)))

    def correlation(self, one: _Marks, other: _Marks) -> float:
        """As _agreement has it of two standardised blurred maps."""
        spreads = [self.spread(marks) for marks in (one, other)]
        lengths = [spread / (spread + TINY) for spread in spreads]  # 1, or 0 for a flat map
        shared = (self.product(one, other) - self.mean(one) * self.mean(other)) / (
            (spreads[0] + TINY) * (spreads[1] + TINY)
        )
        return float((shared + TINY**2) / np.sqrt((lengths[0] ** 2 + TINY**2) * (lengths[1] ** 2 + TINY**2)))

    def nss(self, one: _Marks, marked: _Marks) -> float:
        """As _mean_at has it of a standardised blurred map and another one that is not blurred."""
        values = self.down[np.ix_(marked.rows, one.rows)] * self.across[np.ix_(marked.columns, one.columns)]
        standard = (values @ one.weights - self.mean(one)) / (self.spread(one) + TINY)
        return float(np.average(standard, weights=marked.weights))


@lru_cache(maxsize=8)
def _blurring(width: int, height: int, sigma: float) -> _Blurring:
    kernel = (1, _kernel_size(sigma))
    across, down = (
        np.sqrt(255) * cv2.GaussianBlur(np.eye(size), kernel, sigma, borderType=cv2.BORDER_REFLECT_101).astype(float)
        for size in (width, height)
    )
    return _Blurring(across, down, across.T @ across, down.T @ down)


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
