"""Score pack sizes: likelihood, absolute error and calibration.

Flow: probabilities or samples of sizes, sizes of people -> size_nll, size_mae, empty_calibration.
Source: our own; pack sizes depend on the speech timing, which published models do not use.
Shapes: E packs, S samples, C size classes (0, 1, 2, 3 or more).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.metrics.calibration import ece

NUM_CLASSES = 4  # 0, 1, 2, 3 or more


def size_classes(sizes: ArrayLike, num_classes: int = NUM_CLASSES) -> NDArray[np.int64]:
    """Map sizes to classes; the last class holds all larger sizes.

    Args:
        sizes: (...) number of fixations.
        num_classes: C.
    """
    sizes = np.asarray(sizes)
    if not (np.equal(np.floor(sizes), sizes).all() and (sizes >= 0).all()):
        raise ValueError(f"pack sizes {sizes.tolist()!s:.60}: expected whole numbers of at least 0")
    return np.minimum(sizes.astype(np.int64), num_classes - 1)


def size_probabilities(
    samples: ArrayLike, num_classes: int = NUM_CLASSES, smoothing: float = 0.5
) -> NDArray[np.float64]:
    """Estimate the probability of each size class from sampled scanpaths.

    Args:
        samples: (S, E) sizes.
        num_classes: C.
        smoothing: Pseudocount per class.

    Returns:
        (E, C), rows sum to 1.
    """
    classes = size_classes(samples, num_classes)
    if classes.ndim != 2 or not len(classes) or smoothing < 0:
        raise ValueError(f"pack sizes: samples of shape {classes.shape}, expected (S, E) with at least one sample")
    counts = np.stack([(classes == one).sum(0) for one in range(num_classes)], axis=1) + smoothing  # (E, C)
    return counts / counts.sum(1, keepdims=True)


def size_nll(probabilities: ArrayLike, sizes: ArrayLike) -> float:
    """Compute the mean negative log likelihood of the size class.

    Args:
        probabilities: (E, C), rows sum to 1.
        sizes: (E,) of people.

    Returns:
        nats per pack, lower is better; inf if an observed size has probability 0.
    """
    table, classes = _read(probabilities, sizes)
    with np.errstate(divide="ignore"):
        return float(-np.log(table[np.arange(len(classes)), classes]).mean())


def size_accuracy(probabilities: ArrayLike, sizes: ArrayLike) -> float:
    """Compute the share of packs whose most likely size class is correct; arguments as in size_nll."""
    table, classes = _read(probabilities, sizes)
    return float((table.argmax(1) == classes).mean())


def size_mae(pred: ArrayLike, human: ArrayLike) -> float:
    """Compute the mean absolute difference of pack sizes.

    Args:
        pred: (E,) predicted sizes, whole numbers or expectations.
        human: (E,).

    Returns:
        fixations, lower is better.
    """
    ours, theirs = np.asarray(pred, float), np.asarray(human, float)
    if ours.shape != theirs.shape or not ours.size:
        raise ValueError(f"pack sizes: {ours.size} predicted and {theirs.size} human ones, expected equal counts")
    return float(np.abs(ours - theirs).mean())


def empty_calibration(probabilities: ArrayLike, sizes: ArrayLike) -> float:
    """Compute the expected calibration error of the probability of an empty pack; arguments as in size_nll.

    Returns:
        0..1, lower is better.
    """
    table, classes = _read(probabilities, sizes)
    return ece(table[:, 0], classes == 0)


def _read(probabilities: ArrayLike, sizes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    table = np.asarray(probabilities, float)
    if table.ndim != 2 or table.shape[0] != np.size(sizes) or not table.size:
        raise ValueError(f"pack sizes: probabilities {table.shape} for {np.size(sizes)} packs, expected one row each")
    if not ((table >= 0).all() and np.allclose(table.sum(1), 1)):
        raise ValueError("pack sizes: probabilities must be at least 0 and sum to 1 in each row")
    return table, size_classes(sizes, table.shape[1])
