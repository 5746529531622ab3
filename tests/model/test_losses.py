"""Check the losses on masks by hand-made cases."""

import pytest
import torch

from sa2va.model.losses import (
    LossConfig,
    average,
    candidate_ious,
    mask_losses,
    place_loss,
    point_losses,
    sample_points,
    total_loss,
    uncertain_points,
)
from sa2va.model.sam.sam2 import MaskOutput


def square(n: int = 2, side: int = 64) -> torch.Tensor:
    """(n, side, side) bool with a square in the upper left quarter."""
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
    points = uncertain_points(logits, LossConfig(num_points=400))
    near = ((points[0, :, 0] - 16.5 / 32).abs() < 1.5 / 32).float().mean()
    assert near > 0.2  # one column in thirty-two, and its neighbours


def test_a_perfect_mask_costs_nothing_and_a_wrong_one_a_lot() -> None:
    torch.manual_seed(0)
    masks = square()
    good = point_losses(perfect_logits(masks), masks.float(), LossConfig())
    bad = point_losses(-perfect_logits(masks), masks.float(), LossConfig())
    assert good[0] < 0.3 and good[1] < 0.1
    assert bad[0] > 5 and bad[1] > 0.5


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
    terms = mask_losses(output_of(torch.randn(2, 16, 16), presence=4.0), masks, LossConfig())
    assert terms["presence"] > 3.9
    assert all(terms[name] == 0 for name in ("bce", "dice", "place", "iou"))


def test_total_weighs_each_term() -> None:
    config = LossConfig(bce=2.0, dice=0.5)
    terms = {"bce": torch.tensor(1.0), "dice": torch.tensor(4.0)}
    assert total_loss(terms, config) == 4.0


def test_the_mean_of_nothing_is_zero_and_can_be_learned_from() -> None:
    values = torch.tensor([1.0, 3.0], requires_grad=True)
    average(values[values > 9]).backward()
    assert values.grad is not None and values.grad.tolist() == [0, 0]
    assert average(values).item() == 2


def test_losses_of_no_masks_are_zero() -> None:
    logits = torch.zeros(0, 3, 16, 16, requires_grad=True)
    output = MaskOutput(logits, torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 4))
    terms = mask_losses(output, torch.zeros(0, 64, 64, dtype=torch.bool), LossConfig())
    assert {name: value.item() for name, value in terms.items()} == dict.fromkeys(terms, 0.0)
