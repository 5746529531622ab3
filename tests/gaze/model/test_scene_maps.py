"""Maps of a scene: only what has been heard is in them, one map serves where nothing changes, streams see the same."""

from dataclasses import replace

import pytest
import torch
from gaze.support.gaze_model import build_decoder, build_gaze, draw_picture

from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.events import Word
from sa2va.gaze.model.rollout import Rollout
from sa2va.gaze.model.scanpath_model import build_scene_maps
from sa2va.gaze.model.scene_maps import stack_history


@pytest.fixture(scope="module")
def decoder() -> EventDecoder:
    return build_decoder(seed=1)


@pytest.fixture(scope="module")
def beliefs(decoder: EventDecoder) -> torch.Tensor:
    return torch.rand(2, 5, *decoder.config.grid.shape, generator=torch.Generator().manual_seed(0))


def test_the_last_beliefs_are_recalled() -> None:
    packs = torch.arange(5.0).view(1, 5, 1, 1)
    assert stack_history(packs)[0, :, :, 0, 0].tolist() == [
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [2, 1, 0, 0],
        [3, 2, 1, 0],
        [4, 3, 2, 0],
    ]


def test_a_later_belief_changes_no_earlier_map(decoder: EventDecoder, beliefs: torch.Tensor) -> None:
    other = beliefs.clone()
    other[:, 3:] = 1 - other[:, 3:]
    one, two = (decoder.scene_maps(maps) for maps in (beliefs, other))
    rows, packs = torch.tensor([0, 1]), torch.tensor([2, 3])
    assert torch.equal(one.at(rows[:1], packs[:1]), two.at(rows[:1], packs[:1]))
    assert not torch.allclose(one.at(rows[1:], packs[1:]), two.at(rows[1:], packs[1:]))


def test_packs_that_are_not_there_are_not_drawn(decoder: EventDecoder, beliefs: torch.Tensor) -> None:
    known = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    some, all_of_them = decoder.scene_maps(beliefs, known=known), decoder.scene_maps(beliefs)
    assert len(some.maps) == 8 and len(all_of_them.maps) == 10
    row, pack = torch.tensor([1, 0]), torch.tensor([2, 4])
    assert torch.allclose(some.at(row, pack), all_of_them.at(row, pack), atol=1e-5)
    assert torch.equal(some.of(torch.tensor([1, 1])).index, some.index[[1, 1]])


def test_one_map_serves_where_the_belief_stays(decoder: EventDecoder, beliefs: torch.Tensor) -> None:
    constant = beliefs[:, :1].expand(-1, 5, -1, -1)
    scene = decoder.scene_maps(constant)
    assert len(scene.maps) == 2
    last = decoder.sight(stack_history(constant)[:, 4])
    assert torch.allclose(scene.at(torch.tensor([0, 1]), torch.tensor([4, 4])), last, atol=1e-5)


def test_a_stream_sees_the_same_maps(decoder: EventDecoder, beliefs: torch.Tensor) -> None:
    scene = decoder.scene_maps(beliefs)
    rollout = Rollout(decoder, num_samples=2)
    words = [
        Word(None, 0.0, 50.0),
        *(Word("a", 50.0 + 300 * n, 350.0 + 300 * n) for n in range(3)),
        Word(None, 950, None),
    ]
    for pack, word in enumerate(words):
        rollout.run_pack(word, beliefs[0, pack])
        assert rollout._maps is not None
        expected = scene.at(torch.tensor([0]), torch.tensor([pack]))
        assert (rollout._maps - expected).abs().max() < 1e-4


def test_the_picture_and_the_words_are_in_the_maps() -> None:
    model = build_gaze()
    words = [("red", "circle"), ("red", "circle")]
    with torch.no_grad():
        heard = model.ground([draw_picture(1), draw_picture(2)], words)
        assert heard.states is not None and heard.known.tolist() == [[True] * 4] * 2
        blind = replace(heard, beliefs=heard.beliefs * 0, states=torch.zeros(2, 4, heard.states.shape[-1]))
        maps = build_scene_maps(model.decoder, blind).maps
        assert not torch.allclose(maps[0], maps[4], atol=1e-4)
        whole = build_scene_maps(model.decoder, heard).maps
        assert not torch.allclose(whole[1], whole[2], atol=1e-5)
