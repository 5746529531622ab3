"""Check the word labels of visual tokens: cells, labels, loss."""

import pytest
import torch
from support.loss_terms import total_loss

from sa2va.world.scenes.scene import COLORS, SHAPES, SIZES, TEXTURES
from sa2va.world.tasks.catalog import TASKS
from sa2va.world.training.patch_labels import (
    UNKNOWN_LABEL,
    UNMARKED,
    attribute_words,
    center_loss,
    center_word,
    label_cells,
    label_loss,
    word_losses,
)
from sa2va.world.training.scene_batch import ATTRIBUTE_SIZES, attribute_ids
from sa2va.world.training.tiny_model import corpus, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(corpus(0, num_samples=4))


def test_every_attribute_is_one_token_of_its_own(tokenizer):
    words = attribute_words(tokenizer)
    assert tuple(len(row) for row in words) == ATTRIBUTE_SIZES
    said = [tokenizer.decode([token]).strip() for row in words for token in row.tolist()]
    assert said == [*COLORS, *SHAPES, *SIZES, *TEXTURES]


def test_a_cell_has_the_attributes_of_what_covers_it():
    samples = [TASKS[task](0, "train", 3) for task in ("refseg", "caption", "gcg")]
    cells, attributes, _ = label_cells(samples, side=8)
    assert set(cells[:, 0].tolist()) == {0, 2}  # a caption has no masks
    for (row, cell), ids in zip(cells.tolist(), attributes.tolist(), strict=True):
        side = samples[row].masks.shape[-1] // 8
        y, x = side * (cell // 8), side * (cell % 8)
        scene = samples[row].meta["scene"]
        shares = [mask[0, y : y + side, x : x + side].mean() for mask in samples[row].masks]
        named = [attribute_ids(thing) for thing, share in zip(scene.objects, shares, strict=False) if share >= 0.2]
        assert tuple(ids) in named


def test_the_loss_falls_to_nothing_where_tokens_are_their_words():
    torch.manual_seed(0)
    words = tuple(torch.arange(size) + 100 * index for index, size in enumerate(ATTRIBUTE_SIZES))
    embeddings = torch.nn.functional.normalize(torch.randn(400, 256), dim=-1) * 16
    attributes = torch.stack([torch.randint(size, (50,)) for size in ATTRIBUTE_SIZES], dim=1)
    said = torch.stack([embeddings[words[i]][attributes[:, i]] for i in range(4)]).sum(0)
    wrong = torch.stack([embeddings[words[i]][(attributes[:, i] + 1) % len(words[i])] for i in range(4)]).sum(0)
    assert total_loss(word_losses(said, attributes, words, embeddings)) < 1e-2
    terms = word_losses(wrong, attributes, words, embeddings)
    assert total_loss(terms) > 20 and all(term.count == 50 for term in terms.values())


def test_the_middle_of_each_object_is_marked():
    samples = [TASKS[task](0, "train", 3) for task in ("refseg", "caption")]
    *_, marks = label_cells(samples, side=8)
    assert marks.shape == (2, 64) and (marks[1] == UNMARKED).all()
    wanted = set()
    for mask in samples[0].masks[:, 0]:
        if mask.any():
            rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
            middle = [(side[0] + side[-1] + 1) / 2 / len(mask) for side in (rows, columns)]
            wanted.add(int(middle[0] * 8) * 8 + int(middle[1] * 8))
    assert set(marks[0].nonzero()[:, 0].tolist()) == wanted


def test_a_middle_is_said_with_the_word_that_fits_every_object(tokenizer):
    assert tokenizer.decode([center_word(tokenizer)]) == " object"
    word = torch.nn.functional.normalize(torch.randn(256), dim=-1) * 16
    marks = torch.tensor([[1.0, 0.0]])
    assert center_loss(torch.stack([word, -word])[None], marks, word).mean < 1e-2
    assert center_loss(torch.stack([-word, word])[None], marks, word).mean > 5


def test_a_label_that_is_not_known_costs_nothing():
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4, requires_grad=True), torch.tensor([0, 3, UNKNOWN_LABEL, 1, UNKNOWN_LABEL, 2])
    known = labels != UNKNOWN_LABEL
    expected = torch.nn.functional.cross_entropy(logits[known], labels[known])
    assert label_loss(logits, labels).mean.item() == pytest.approx(expected.item(), abs=1e-6)
    nothing = label_loss(logits, torch.full((6,), UNKNOWN_LABEL))
    nothing.mean.backward()
    assert nothing.mean.item() == nothing.count == 0
    assert not logits.grad.any()
