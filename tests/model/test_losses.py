"""Check the mask losses on constructed cases."""

import pytest
import torch
from support.loss_terms import total_loss

from sa2va.model.losses import (
    LossConfig,
    LossTerm,
    candidate_ious,
    mask_losses,
    place_loss,
    point_losses,
    random_points,
    sample_points,
    uncertain_points,
)
from sa2va.model.sam.sam2 import MaskOutput

SEEDS = torch.tensor([3, 4])
ALL_TERMS = LossConfig(place=0.5, iou=1.0, presence=1.0, candidate="real", skip_empty=True)


def square(n: int = 2, side: int = 64) -> torch.Tensor:
    """Build masks (n, side, side) with a square in the upper left quarter."""
    masks = torch.zeros(n, side, side, dtype=torch.bool)
    masks[:, : side // 2, : side // 2] = True
    return masks


def perfect_logits(masks: torch.Tensor, size: int = 16) -> torch.Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(masks[:, None].float(), size)[:, 0] * 40 - 20


def output_of(logits: torch.Tensor, presence: float = 5.0) -> MaskOutput:
    n = len(logits)
    return MaskOutput(
        logits[:, None].expand(n, 3, -1, -1), torch.ones(n, 3), torch.full((n,), presence), torch.zeros(n, 4)
    )


def test_points_are_read_at_pixel_centres() -> None:
    values = torch.arange(16.0).reshape(1, 4, 4)
    points = torch.tensor([[[0.125, 0.125], [0.875, 0.125], [0.125, 0.875]]])
    assert sample_points(values, points).tolist() == [[0.0, 3.0, 12.0]]


def test_most_points_lie_where_the_mask_is_undecided() -> None:
    torch.manual_seed(0)
    logits = torch.full((1, 32, 32), 9.0)
    logits[:, :, 16] = 0.0  # a thin undecided column
    points = uncertain_points(logits, LossConfig(num_points=400), SEEDS[:1])
    near = ((points[0, :, 0] - 16.5 / 32).abs() < 1.5 / 32).float().mean()
    assert near > 0.2  # one column in thirty-two, and its neighbours


def test_a_perfect_mask_costs_nothing_and_a_wrong_one_a_lot() -> None:
    torch.manual_seed(0)
    masks = square()
    good = point_losses(perfect_logits(masks), masks.float(), LossConfig(), SEEDS)
    bad = point_losses(-perfect_logits(masks), masks.float(), LossConfig(), SEEDS)
    assert good[0].max() < 0.3 and good[1].max() < 0.1
    assert bad[0].min() > 5 and bad[1].min() > 0.5


def test_iou_of_candidates_is_exact_on_whole_cells() -> None:
    masks = square(1)
    logits = perfect_logits(masks)
    half = logits.clone()
    half[:, 4:8] = -20.0  # the lower half of the square is missed
    ious = candidate_ious(torch.stack([logits, half, -logits], dim=1), masks.float())
    assert ious[0].tolist() == [1.0, 0.5, 0.0]


def test_place_loss_is_least_where_the_object_is() -> None:
    masks = square(1)
    right, nowhere = perfect_logits(masks), torch.zeros(1, 16, 16)
    assert place_loss(right, masks.float()) == pytest.approx(torch.log(torch.tensor(4.0)).item(), abs=1e-3)
    assert place_loss(nowhere, masks.float()) == pytest.approx(torch.log(torch.tensor(16.0)).item(), abs=1e-5)
    assert place_loss(-right, masks.float()) > 20


def test_an_empty_target_trains_presence_alone() -> None:
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    terms = mask_losses(output_of(torch.randn(2, 16, 16), presence=4.0), masks, ALL_TERMS, SEEDS)
    assert terms["presence"].mean > 3.9 and terms["presence"].count == 2
    assert all(terms[name].total == terms[name].count == 0 for name in ("bce", "dice", "place", "iou"))


def test_the_paper_trains_empty_targets_and_the_candidate_it_believes_in() -> None:
    masks = square(1)
    right = perfect_logits(masks)
    output = MaskOutput(
        torch.stack([right, -right, right], dim=1), torch.tensor([[0.1, 0.9, 0.2]]), torch.zeros(1), torch.zeros(1, 4)
    )
    believed, real = (
        mask_losses(output, masks, LossConfig(candidate=candidate), SEEDS[:1])["bce"].mean
        for candidate in ("predicted", "real")
    )
    assert believed > 5 > real
    empty = mask_losses(output.select(slice(0, 1)), ~masks & masks, LossConfig(), SEEDS[:1])
    assert set(empty) == {"bce", "dice"} and all(term.count == 1 for term in empty.values())


def test_total_weighs_each_term() -> None:
    terms = {"bce": LossTerm.of(torch.ones(3), 2.0), "dice": LossTerm.of(torch.tensor([3.0, 5.0]), 0.5)}
    assert total_loss(terms) == 4.0


def test_the_mean_of_nothing_is_zero_and_can_be_learned_from() -> None:
    values = torch.tensor([1.0, 3.0], requires_grad=True)
    LossTerm.of(values[values > 9]).mean.backward()
    assert values.grad is not None and values.grad.tolist() == [0, 0]
    assert LossTerm.of(values).mean.item() == 2


def test_a_mask_has_the_same_points_in_every_batch() -> None:
    seeds = torch.arange(50)
    points = random_points(seeds, 300, stream=0)
    assert torch.equal(random_points(seeds[7:9], 300, stream=0), points[7:9])
    assert not torch.equal(random_points(seeds, 300, stream=1), points)
    assert points.min() >= 0 and points.max() < 1
    assert points.mean((0, 1)).sub(0.5).abs().max() < 0.01 and points.std() == pytest.approx(12**-0.5, abs=0.005)
    flat = points.flatten(1)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.2  # rows are independent
    assert torch.corrcoef(torch.stack([flat[:, :-1].flatten(), flat[:, 1:].flatten()]))[0, 1].abs() < 0.02


def test_a_mask_that_does_not_count_adds_neither_value_nor_gradient() -> None:
    masks, logits = square(2), torch.randn(2, 16, 16, requires_grad=True)
    terms = mask_losses(output_of(logits), masks, ALL_TERMS, SEEDS, torch.tensor([1.0, 0.0]))
    alone = mask_losses(output_of(logits[:1]), masks[:1], ALL_TERMS, SEEDS[:1])
    for name, term in terms.items():
        torch.testing.assert_close(term.mean, alone[name].mean)
        assert float(term.count) == 1
    total_loss(terms).backward()
    assert logits.grad is not None and logits.grad[0].any() and not logits.grad[1].any()


def test_losses_of_no_masks_are_zero() -> None:
    logits = torch.zeros(0, 3, 16, 16, requires_grad=True)
    output = MaskOutput(logits, torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 4))
    terms = mask_losses(output, torch.zeros(0, 64, 64, dtype=torch.bool), ALL_TERMS, SEEDS[:0])
    assert {name: term.mean.item() for name, term in terms.items()} == dict.fromkeys(terms, 0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_points": 0}, "num_points is 0; expected 1 or more"),
        ({"bce": -1.0}, "bce is -1.0; expected 0 or more"),
        ({"uncertain_share": 1.5}, "uncertain_share is 1.5; expected 0 to 1"),
        ({"oversample": 0.5}, "oversample is 0.5; expected 1.0 or more"),
    ],
)
def test_settings_without_a_meaning_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"losses: {message}"):
        LossConfig(**values)  # ty: ignore[invalid-argument-type]


def test_an_empty_target_has_no_place() -> None:
    targets = square()
    targets[1] = False
    logits = torch.zeros(2, 16, 16, requires_grad=True)
    terms = mask_losses(output_of(logits), targets, LossConfig(place=0.5, num_points=64), SEEDS)
    alone = mask_losses(output_of(logits[:1]), targets[:1], LossConfig(place=0.5, num_points=64), SEEDS[:1])
    assert float(terms["place"].count) == 1
    torch.testing.assert_close(terms["place"].mean, alone["place"].mean)
    total_loss(terms).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
