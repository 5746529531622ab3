"""Classify visual tokens by the attribute words of their objects, in the space of word embeddings.

Flow: visual tokens (encoders.py, auxiliary_heads.py) -> word embeddings -> cross-entropy per attribute.
Source: our own. Attention learns to match equal embeddings long before it matches an appearance with its word. Without
    this loss, colors were matched but shapes were not, although a linear probe reads shapes from the tokens.
Shapes: B scenes, Z visual tokens that lie on an object, D width of the text model, V vocabulary.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sa2va.model.losses import LossTerm
from sa2va.types import Sample
from sa2va.world.scenes.scene import COLORS, SHAPES, SIZES, TEXTURES
from sa2va.world.training.scene_batch import attribute_ids, mask_boxes

ATTRIBUTE_WEIGHTS = {"color": 1.0, "shape": 2.0, "size": 0.5, "texture": 0.5}  # shape is learned most slowly
CENTER_WEIGHT = 4.0  # only a few of many cells are centers
UNMARKED = -1.0
UNKNOWN_LABEL = -100
LEAST_COVER = 0.2  # least share of a visual token's cell that an object must cover to be its label


def attribute_words(tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, ...]:
    """Return the token ids of the words for each color, shape, size and texture, in the order of `attribute_ids`."""
    words = []
    for values in (COLORS, SHAPES, SIZES, TEXTURES):
        encoded = [tokenizer.encode(f" {value}", add_special_tokens=False) for value in values]
        words.append(torch.tensor([tokens[0] for tokens in encoded]))
    return tuple(words)


def center_word(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token id of " object", the label of object centers."""
    return tokenizer.encode(" object", add_special_tokens=False)[0]


def label_loss(logits: Tensor, labels: Tensor, weight: float = 1.0) -> LossTerm:
    """Compute the cross-entropy of logits (Z, values) and labels (Z,), ignoring UNKNOWN_LABEL."""
    total = F.cross_entropy(logits.float(), labels, ignore_index=UNKNOWN_LABEL, reduction="sum")
    return LossTerm(total, (labels != UNKNOWN_LABEL).sum(), weight)


def word_losses(tokens: Tensor, attributes: Tensor, words: Sequence[Tensor], embeddings: Tensor) -> dict[str, LossTerm]:
    """Compute the cross-entropy over the words of each attribute, for each visual token.

    Args:
        tokens: (Z, D) visual tokens, as input of the text model.
        attributes: (Z, 4) attributes of their objects, UNKNOWN_LABEL for a color outside the vocabulary.
        words: for each attribute the token ids of its words.
        embeddings: (V, D) word embeddings.
    """
    terms = {}
    for index, (name, weight) in enumerate(ATTRIBUTE_WEIGHTS.items()):
        logits = tokens @ embeddings[words[index]].T / tokens.shape[-1] ** 0.5
        terms[f"word_{name}"] = label_loss(logits, attributes[:, index], weight)
    return terms


def mark_centers(boxes: Tensor, owners: Tensor, num_scenes: int, side: int) -> Tensor:
    """Mark the cell that holds the center of each object's box.

    One marked cell per object, whatever its size, allows the model to count and enumerate objects.

    Args:
        boxes: (N, 4) center x, y, width, height, 0..1; width 0 for invisible objects.
        owners: (N,) scene index of each object.
        num_scenes: B.
        side: side of the grid.

    Returns:
        (B, cells) 1 or 0.
    """
    seen = boxes[:, 2] > 0
    columns, rows = (boxes[seen, :2] * side).long().clamp(max=side - 1).unbind(1)
    marks = torch.zeros(num_scenes, side * side)
    marks[owners[seen], rows * side + columns] = 1
    return marks


def center_loss(tokens: Tensor, marks: Tensor, word: Tensor) -> LossTerm:
    """Compute the cross-entropy of whether each visual token marks the center of an object.

    Args:
        tokens: (..., D).
        marks: (...) 1 or 0.
        word: (D,) word embedding whose dot product with a token is the logit.
    """
    logits = tokens @ word / tokens.shape[-1] ** 0.5
    return LossTerm.of(F.binary_cross_entropy_with_logits(logits.float(), marks, reduction="none"), CENTER_WEIGHT)


def label_cells(samples: Sequence[Sample], side: int) -> tuple[Tensor, Tensor, Tensor]:
    """List the cells of first frames that objects cover, with the attributes of the objects.

    Args:
        samples: B samples on synthetic scenes; those without masks of their objects are skipped.
        side: side of the grid of visual tokens.

    Returns:
        (Z, 2) row of the sample and cell of its grid; (Z, 4) attributes; (B, cells) marks, 1 at centers of objects,
        0 elsewhere, UNMARKED in skipped samples.
    """
    cells: list[tuple[int, int]] = []
    attributes: list[tuple[int, ...]] = []
    marks = torch.full((len(samples), side * side), UNMARKED)
    for row, sample in enumerate(samples):
        if not len(sample.tracks):
            continue
        masks = torch.from_numpy(sample.tracks.masks(range(len(sample.tracks)), [0])[:, 0])
        cover = F.adaptive_avg_pool2d(masks.float(), side).flatten(1)  # (N, cells)
        marks[row] = mark_centers(mask_boxes(masks), torch.zeros(len(masks), dtype=torch.long), 1, side)[0]
        for thing, mine in zip(sample.meta["scene"].objects, cover, strict=False):  # the last mask may be empty
            found = (mine >= LEAST_COVER).nonzero()[:, 0].tolist()
            cells += [(row, cell) for cell in found]
            attributes += [attribute_ids(thing)] * len(found)
    long = [torch.tensor(rows, dtype=torch.long) for rows in (cells, attributes)]
    return long[0].reshape(-1, 2), long[1].reshape(-1, 4), marks
