"""Teach visual tokens to say what lies on them, in the embeddings of the words themselves.

Flow: visual tokens (vision.py, cotrain.py) -> word embeddings -> cross-entropy an attribute.
Source: our own. Attention finds equal words long before it learns that a look and a word mean the same; colour came
    by itself, the shape never did, though a linear map reads it from the tokens.
Shapes: B scenes, Z visual tokens that lie on an object, D width of the text model, V vocabulary.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from sa2va.model.losses import average
from sa2va.types import Sample
from sa2va.world.scenes.scene import COLORS, SHAPES, SIZES, TEXTURES
from sa2va.world.training.scene_batch import attribute_ids, mask_boxes

ATTRIBUTE_WEIGHTS = {"color": 1.0, "shape": 2.0, "size": 0.5, "texture": 0.5}  # shape is the one that takes long
CENTRE_WEIGHT = 4.0  # a few of many cells are centres
UNMARKED = -1.0
UNKNOWN_LABEL = -100
LEAST_COVER = 0.2  # of a visual token's cell, for it to name an object


def attribute_words(tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, ...]:
    """Return the tokens of the words for each colour, shape, size and texture, in the order of their numbers."""
    words = []
    for values in (COLORS, SHAPES, SIZES, TEXTURES):
        encoded = [tokenizer.encode(f" {value}", add_special_tokens=False) for value in values]
        words.append(torch.tensor([tokens[0] for tokens in encoded]))
    return tuple(words)


def centre_word(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token of the word that fits every object."""
    return tokenizer.encode(" object", add_special_tokens=False)[0]


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (Z, values) and labels (Z,), averaged over the labels that are known, maybe none."""
    summed = F.cross_entropy(logits.float(), labels, ignore_index=UNKNOWN_LABEL, reduction="sum")
    return summed / (labels != UNKNOWN_LABEL).sum().clamp(min=1)


def name_loss(tokens: Tensor, attributes: Tensor, words: Sequence[Tensor], embeddings: Tensor) -> Tensor:
    """Cross-entropy between the words of an attribute, summed over the attributes.

    Args:
        tokens: (Z, D) visual tokens as the text model gets them.
        attributes: (Z, 4) what lies on them, UNKNOWN_LABEL where that has no name.
        words: of each attribute the tokens of its words.
        embeddings: (V, D) of the words.
    """
    terms = []
    for index, weight in enumerate(ATTRIBUTE_WEIGHTS.values()):
        logits = tokens @ embeddings[words[index]].T / tokens.shape[-1] ** 0.5
        terms.append(weight * label_loss(logits, attributes[:, index]))
    return torch.stack(terms).sum()


def mark_centres(boxes: Tensor, owners: Tensor, num_scenes: int, side: int) -> Tensor:
    """Mark the cell that holds the middle of each object's box.

    A picture's objects can be counted and listed one by one only where something tells them apart, however many cells
    each of them lies on.

    Args:
        boxes: (N, 4) centre x, y, width, height, 0..1; of no width where nothing is to be seen.
        owners: (N,) which of the scenes an object belongs to.
        num_scenes: B.
        side: of the grid.

    Returns:
        (B, cells) 1 or 0.
    """
    seen = boxes[:, 2] > 0
    columns, rows = (boxes[seen, :2] * side).long().clamp(max=side - 1).unbind(1)
    marks = torch.zeros(num_scenes, side * side)
    marks[owners[seen], rows * side + columns] = 1
    return marks


def centre_loss(tokens: Tensor, marks: Tensor, word: Tensor) -> Tensor:
    """Cross-entropy of whether each visual token says that an object's middle is there.

    Args:
        tokens: (..., D).
        marks: (...) 1 or 0.
        word: (D,) the embedding that the middle of an object is likened to.
    """
    logits = tokens @ word / tokens.shape[-1] ** 0.5
    return CENTRE_WEIGHT * average(F.binary_cross_entropy_with_logits(logits.float(), marks, reduction="none"))


def name_cells(samples: Sequence[Sample], side: int) -> tuple[Tensor, Tensor, Tensor]:
    """List the cells of first frames that objects lie on, with the attributes of the objects.

    Args:
        samples: B drawn pictures or clips; those without masks of their objects are passed over.
        side: of the grid of visual tokens.

    Returns:
        (Z, 2) row of the sample and cell of its grid, (Z, 4) attributes, (B, cells) where the middle of an object is:
        1 or 0, UNMARKED in samples that were passed over.
    """
    cells: list[tuple[int, int]] = []
    attributes: list[tuple[int, ...]] = []
    marks = torch.full((len(samples), side * side), UNMARKED)
    for row, sample in enumerate(samples):
        if not len(sample.masks):
            continue
        masks = torch.from_numpy(sample.masks[:, 0])
        cover = F.adaptive_avg_pool2d(masks.float(), side).flatten(1)  # (N, cells)
        marks[row] = mark_centres(mask_boxes(masks), torch.zeros(len(masks), dtype=torch.long), 1, side)[0]
        for thing, mine in zip(sample.meta["scene"].objects, cover, strict=False):  # an empty mask may follow
            found = (mine >= LEAST_COVER).nonzero()[:, 0].tolist()
            cells += [(row, cell) for cell in found]
            attributes += [attribute_ids(thing)] * len(found)
    return torch.tensor(cells).reshape(-1, 2), torch.tensor(attributes).reshape(-1, 4), marks
