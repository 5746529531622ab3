"""Likelihoods of the event decoder: exact over kinds of observers, and each term counts what it should."""

from dataclasses import fields, replace

import pytest
import torch
from gaze.support.gaze_model import build_decoder, clock, draw_path

from sa2va.gaze.model.events import FACT, EventBatch, collate, write_tokens
from sa2va.gaze.model.losses import EventLossConfig, crowd_loss, event_losses, predictive_log_density, token_terms

WORDS = ("red", "car", "parked")
TIMING = clock([300.0, 250.0, 400.0])


def make_batch(seeds: tuple[int, ...] = (0, 1)) -> EventBatch:
    belief = torch.zeros(5, 10, 16)
    belief[:, 2:5, 3:7] = 1
    rows = [write_tokens(draw_path(WORDS, TIMING, seed), TIMING) for seed in seeds]
    return collate(rows, [belief] * len(rows))


def test_predictive_densities_multiply_to_the_likelihood_of_the_whole() -> None:
    """What each fixation is given, after all before it, adds up to the mixture over kinds of observers."""
    decoder, batch = build_decoder(num_observers=3), make_batch()
    with torch.no_grad():
        decoder.prior.copy_(torch.tensor([0.3, -0.4, 0.1]))
        terms = token_terms(decoder, batch)
        places = replace(terms, **{f.name: terms.place * 0 for f in fields(terms) if f.name != "place"})
        step = predictive_log_density(places, decoder).sum(-1)
        whole = (decoder.prior.log_softmax(0)[:, None] + terms.place.sum(-1)).logsumexp(0)
    assert torch.allclose(step, whole, atol=1e-3)


def test_the_gradient_is_that_of_the_mixture() -> None:
    """With weights of 1 the loss has the gradient of the exact negative log likelihood."""
    decoder, batch = build_decoder(num_observers=2), make_batch()
    weights = EventLossConfig(duration=1, gap=1, next=0, last_fixation=0, stop_off_target=0)
    batch = replace(batch, decides=batch.decides & False)
    losses = event_losses(token_terms(decoder, batch), decoder, batch, weights).values()
    torch.stack([loss.weight * loss.mean for loss in losses]).sum().backward()
    ours = decoder.observers.weight.grad
    assert ours is not None
    decoder.zero_grad()
    terms = token_terms(decoder, batch)
    whole = (decoder.prior.log_softmax(0)[:, None] + terms.total.sum(-1)).logsumexp(0)
    (-whole.sum() / batch.looks.sum()).backward()
    exact = decoder.observers.weight.grad
    assert exact is not None and torch.allclose(ours, exact, atol=1e-5)


def test_landing_looks_at_the_last_fixation_alone() -> None:
    decoder, batch = build_decoder(), make_batch()
    with torch.no_grad():
        terms = token_terms(decoder, batch)
    assert (terms.last_fixation != 0).sum((0, 2)).tolist() == [2, 2]  # once for each of two kinds
    assert (terms.last_fixation[:, batch.is_last] < 0).all()


def test_landing_takes_the_true_target_where_it_is_known() -> None:
    decoder, batch = build_decoder(), make_batch()
    cover = torch.zeros(2, 10, 16)
    cover[:, 8:, 12:] = 1
    with torch.no_grad():
        one, other = (token_terms(decoder, row).last_fixation for row in (batch, replace(batch, cover=cover)))
    assert not torch.allclose(one[:, batch.is_last], other[:, batch.is_last])


def test_astray_counts_who_goes_on_beside_the_target_and_nobody_else() -> None:
    decoder, batch = build_decoder(), make_batch((0, 1, 2, 3))
    cover = torch.zeros(4, 10, 16)
    cover[:, 2:7, 4:12] = 1  # 128..384 x 64..224 px
    batch = replace(batch, cover=cover)
    with torch.no_grad():
        terms = token_terms(decoder, batch)
    x, y = batch.facts[..., FACT["x"]], batch.facts[..., FACT["y"]]
    beside = (x < 128) | (x > 384) | (y < 64) | (y > 224)
    wanted = terms.stop * (beside & batch.decides & ~batch.stops)
    assert (wanted != 0).any() and (terms.stop[:, batch.decides & ~beside] != 0).any()
    assert torch.equal(terms.stop_off_target, wanted)


def test_astray_teaches_to_go_on() -> None:
    """Following the gradient makes stopping beside the target less likely."""
    decoder, batch = build_decoder(), make_batch()
    batch = replace(batch, cover=torch.zeros(2, 10, 16).index_fill(2, torch.tensor([15]), 1.0))
    before = event_losses(token_terms(decoder, batch), decoder, batch)["stop_off_target"].mean
    before.backward()
    last = decoder.outlook[-1]
    assert isinstance(last, torch.nn.Linear) and last.bias.grad is not None
    assert float(before.detach()) > 0 and float(last.bias.grad[3]) > 0


def test_nobody_is_astray_where_no_target_is_known() -> None:
    decoder, batch = build_decoder(), make_batch()
    with torch.no_grad():
        assert not token_terms(decoder, replace(batch, cover=torch.zeros(2, 10, 16))).stop_off_target.any()


def test_a_map_of_all_people_pulls_the_priority() -> None:
    priority = torch.randn(3, 160, requires_grad=True)
    crowd = torch.zeros(3, 160)
    crowd[:2, 40] = 1  # nobody looked in the third pack
    loss = crowd_loss(priority.log_softmax(-1), crowd).mean
    loss.backward()
    assert priority.grad is not None
    assert (priority.grad[:2, 40] < 0).all() and (priority.grad[2] == 0).all()
    assert float(loss.detach()) == pytest.approx(float(-priority.detach().log_softmax(-1)[:2, 40].mean()), rel=1e-5)


@pytest.mark.parametrize("term", ["place", "duration", "gap", "stop", "next", "stop_off_target"])
def test_every_term_trains_the_decoder(term: str) -> None:
    decoder, batch = build_decoder(), make_batch()
    event_losses(token_terms(decoder, batch), decoder, batch)[term].mean.backward()
    assert sum(float(p.grad.abs().sum()) for p in decoder.parameters() if p.grad is not None) > 0
