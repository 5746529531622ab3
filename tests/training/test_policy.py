"""Check advantages, clipped ratios and the KL divergence, and that a policy learns the rewarded answer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sa2va.model.auxiliary import ForwardView
from sa2va.training.policy import Actions, PolicyConfig, PolicyLoss, clipped_loss, kl_estimate, normalize_groups

groups = st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=5)


@given(groups)
def test_advantages_have_mean_0_and_spread_1_or_are_0(rewards: list[list[float]]) -> None:
    advantages, kept = normalize_groups(torch.tensor(rewards), least_spread=0.02)
    torch.testing.assert_close(advantages.mean(1), torch.zeros(len(rewards)), atol=1e-5, rtol=0)
    spread = advantages.square().mean(1).sqrt()
    torch.testing.assert_close(spread, kept.float(), atol=1e-4, rtol=0)


def test_equal_rewards_teach_nothing() -> None:
    advantages, kept = normalize_groups(torch.tensor([[0.7] * 4, [0.7, 0.7, 0.7, 0.71], [0.0, 0.0, 0.0, 1.0]]), 0.02)
    assert not advantages[:2].any() and kept.tolist() == [False, False, True]
    assert advantages[2].argmax() == 3


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "has_gradient"),
    [
        (1.0, 2.0, -2.0, True),
        (1.5, 2.0, -2.4, False),  # already more likely than the clip allows
        (0.5, 2.0, -1.0, True),
        (0.5, -2.0, 1.6, False),  # already less likely
        (1.5, -2.0, 3.0, True),
    ],
)
def test_a_ratio_beyond_the_clip_has_no_gradient(
    ratio: float, advantage: float, loss: float, has_gradient: bool
) -> None:
    value = torch.tensor(ratio, requires_grad=True)
    found = clipped_loss(value, torch.tensor(advantage), 0.2)
    found.backward()
    assert found.item() == pytest.approx(loss)
    assert bool(value.grad) is has_gradient


@given(st.floats(-4, 0), st.floats(-4, 0))
def test_the_divergence_is_0_where_both_agree_and_positive_elsewhere(one: float, other: float) -> None:
    found = kl_estimate(torch.tensor(one), torch.tensor(other)).item()
    assert found >= -1e-6 and kl_estimate(torch.tensor(one), torch.tensor(one)).item() == 0


def test_the_estimate_of_the_divergence_has_no_bias() -> None:
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    wanted = (policy * (policy / reference).log()).sum()
    estimates = kl_estimate(policy.log(), reference.log())
    torch.testing.assert_close((policy * estimates).sum(), wanted)


class TwoTokens(nn.Module):
    """A policy that answers a prompt with one of two tokens, and with a state of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Parameter(torch.zeros(2))

    def view(self, number: int) -> ForwardView:
        """Return the states of a row of `number` equal columns, of which each is also a mask token."""
        states = self.state.expand(1, number, 2)
        return ForwardView(
            input_embeds=states, is_visual=states[..., 0] > 9, hidden_states=states, seg_states=states[0],
            prompt_embeds=states[0], attentions={},
        )  # fmt: skip


def act(token_ids: Tensor, advantages: Tensor, **more: object) -> Actions:
    number = len(token_ids)
    values = {
        "places": torch.stack([torch.zeros(number).long(), torch.arange(number)], 1),
        "token_ids": token_ids, "owners": torch.arange(number), "advantages": advantages, "temperature": 1.0,
        "states": torch.zeros(0, 2), "deviations": torch.zeros(0), "seg_owners": torch.zeros(0).long(),
    }  # fmt: skip
    return Actions(**(values | more))


def test_the_first_update_has_ratio_1_and_the_gradient_of_the_advantages() -> None:
    policy, actions = TwoTokens(), act(torch.tensor([0, 1]), torch.tensor([1.0, -1.0]))
    actions = Actions(**(vars(actions) | {"reference": torch.tensor([0.5, 0.5]).log()}))
    loss = PolicyLoss(actions, PolicyConfig(kl=1.0), lambda states: states)
    terms = loss(policy.view(2))
    assert terms["policy"].mean.item() == 0 and terms["kl"].mean.item() == 0  # ratios are 1, both policies the same
    (terms["policy"].mean + terms["kl"].mean).backward()
    torch.testing.assert_close(policy.state.grad, torch.tensor([-0.5, 0.5]))  # as the policy gradient, E[A d log p]
    with torch.no_grad():
        policy.state.copy_(torch.tensor([1.0, 0.0]))
    later = loss(policy.view(2))
    ratios = torch.tensor([1.0, 0.0]).softmax(0) / 0.5
    wanted = clipped_loss(ratios, actions.advantages, 0.2).mean()
    torch.testing.assert_close(later["policy"].mean, wanted)
    assert later["kl"].mean.item() > 0


def test_two_tokens_learn_the_rewarded_answer() -> None:
    policy = TwoTokens()
    optimizer, generator = torch.optim.Adam(policy.parameters(), lr=0.1), torch.Generator().manual_seed(0)
    for _ in range(60):
        chances = policy.state.detach().softmax(0)
        tokens = torch.multinomial(chances, 8, replacement=True, generator=generator)
        advantages, _ = normalize_groups((tokens == 1).float()[None], 0.02)
        optimizer.zero_grad()
        PolicyLoss(act(tokens, advantages[0]), PolicyConfig(kl=0), lambda states: states)(policy.view(8))[
            "policy"
        ].mean.backward()
        optimizer.step()
    assert policy.state.softmax(0)[1] > 0.95


def test_noise_on_states_moves_them_to_the_rewarded_place() -> None:
    policy, goal = TwoTokens(), torch.tensor([1.0, -1.0])
    optimizer, generator = torch.optim.Adam(policy.parameters(), lr=0.05), torch.Generator().manual_seed(0)
    config = PolicyConfig(kl=0, noise=0.3)
    for _ in range(100):
        states = policy.state.detach() + 0.3 * torch.randn(16, 2, generator=generator)
        advantages, _ = normalize_groups(-(states - goal).square().sum(1)[None], 0.02)
        actions = act(
            torch.zeros(16).long(), advantages[0], states=states, deviations=torch.full((16,), 0.3),
            seg_owners=torch.arange(16),
        )  # fmt: skip
        optimizer.zero_grad()
        terms = PolicyLoss(actions, config, lambda states: states)(policy.view(16))
        terms["seg_policy"].mean.backward()
        optimizer.step()
    assert (policy.state - goal).abs().max() < 0.3


def test_answers_count_the_same_whatever_their_length() -> None:
    actions = act(torch.tensor([0, 0, 0]), torch.tensor([1.0, 1.0]), owners=torch.tensor([0, 0, 1]))
    term = actions.per_answer(torch.tensor([1.0, 3.0, 5.0]), actions.owners)
    assert (term.total.item(), term.count) == (7.0, 2.0)


@pytest.mark.parametrize("settings", [{"clip": 0}, {"kl": -1}, {"least_spread": 0}, {"noise": -1}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"policy: {next(iter(settings))} is "):
        PolicyConfig(**settings)
