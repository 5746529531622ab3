"""Score grounded captions of one picture: mean IoU over matched masks, and recalled phrases.

Flow: iou.pairwise_rle_iou and similarities of phrases per picture -> matched_only_iou -> interval.mean over pictures;
    num_recalled -> interval.share over pictures.
Source: GLaMM, arXiv:2311.03356. Its mean IoU ignores unmatched masks; ap.matched_iou counts them as 0.
Shapes: P predicted masks, G true masks; P' phrases said, G' true phrases; D size of an embedding.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.metrics.ap import THRESHOLD, greedy_match
from sa2va.metrics.text import f1, normalize

TEXT_THRESHOLD = 0.5  # least similarity of the phrases of a recalled object


def matched_only_iou(similarity: NDArray[np.float64]) -> float:
    """Compute the mean IoU of the greedily matched pairs of one picture; unmatched masks do not count.

    Args:
        similarity: (P, G) IoU of every predicted with every true mask.

    Returns:
        0..1; 0 without pairs.
    """
    pairs = greedy_match(similarity)
    return sum(float(similarity[pair]) for pair in pairs) / len(pairs) if pairs else 0.0


def num_recalled(
    similarity: NDArray[np.float64], text_similarity: NDArray[np.float64], *, released: bool = False
) -> int:
    """Count the true phrases of one picture that the caption says and grounds.

    Pairs of masks are accepted greedily by IoU, while both the IoU and the similarity of their phrases are at least
    0.5; the first pair that is not ends the picture, even if later ones are.

    Args:
        similarity: (P, G) IoU.
        text_similarity: (P', G') similarity of every phrase said with every true one.
        released: Without it, a picture with unequal numbers of masks and phrases has none. The released code fails
            on it, and counts none, only where an accepted mask has no phrase.

    Returns:
        True positives; recall is their sum over the sum of G'.
    """
    if similarity.shape != text_similarity.shape and not released:
        return 0
    count = 0
    for column, row in greedy_match(similarity.T):  # of equal IoUs, the first true mask comes first
        if similarity[row, column] < THRESHOLD:
            break
        if row >= text_similarity.shape[0] or column >= text_similarity.shape[1]:
            return 0
        if text_similarity[row, column] < TEXT_THRESHOLD:
            break
        count += 1
    return count


def word_overlap(said: Sequence[str], gold: Sequence[str]) -> NDArray[np.float64]:
    """Compute the F1 of the words of every phrase said with every true one, ignoring case and punctuation.

    Args:
        said: P' phrases.
        gold: G' phrases.

    Returns:
        (P', G'), 0..1.
    """
    bags = [[Counter(normalize(phrase).split()) for phrase in phrases] for phrases in (said, gold)]
    found = [[f1((one & other).total(), one.total(), other.total()) for other in bags[1]] for one in bags[0]]
    return np.array(found, float).reshape(len(said), len(gold))


def cosine_similarities(said: ArrayLike, gold: ArrayLike) -> NDArray[np.float64]:
    """Compute the cosine of every embedding with every other; a zero vector has 0 with all.

    Args:
        said: (P', D).
        gold: (G', D).

    Returns:
        (P', G'), -1..1.
    """
    one, other = (_to_unit(np.asarray(vectors, float)) for vectors in (said, gold))
    return one @ other.T


def _to_unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
