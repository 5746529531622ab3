"""Score where fixations fall, not their order: correlation and NSS of blurred fixation maps, per pack or per image.

Flow: fixations -> fixation_map -> blurred -> correlation, nss; score_packs per case of spoken words,
    score_image where a picture is looked at without words.
Source: Bylinskii et al., TPAMI 2019 (CC, NSS); RefCOCO-Gaze, arXiv:2407.19605 (per word, sigma 9 px of 512 x 320).
Shapes: H W canvas, K fixations, S samples of a model, P people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    radius = int(4 * sigma + 0.5)
    size = (2 * radius + 1, 2 * radius + 1)
    return 255 * cv2.GaussianBlur(marked, size, sigma, borderType=cv2.BORDER_REFLECT_101).astype(float)


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
    cc_samples, nss_people = [], []
    for pack in range(max(len(human) for human in humans)):
        theirs = [fixation_map(human[pack], width, height) for human in humans if len(human) > pack]
        reached = [pred[pack] for pred in preds if len(pred) > pack]
        ours = reached if published else [*reached, *[np.zeros((0, 2))] * (len(preds) - len(reached))]
        marks = [fixation_map(points, width, height) for points in ours or [np.zeros((0, 2))]]
        marks = [np.mean(marks, axis=0)] if pooled else marks
        maps = [standardised(blurred(marked, sigma)) for marked in marks]
        target = standardised(blurred(np.mean(theirs, axis=0), sigma))
        cc_samples.append(tuple(_agreement(one, target) for one in maps))
        nss_people.append(
            tuple(tuple(_mean_at(one, marked) for one in maps) if marked.any() else () for marked in theirs)
        )
    return PackMaps(cc_samples=tuple(cc_samples), nss_people=tuple(nss_people))


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
