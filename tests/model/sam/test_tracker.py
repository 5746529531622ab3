"""Compare the tracker with the library's unbounded session, and check its bounds."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stock_sam2 import WIDTH, build_sam2, draw_clip, draw_masks, follow_language, propagate
from torch import Tensor
from transformers import Sam2VideoModel

from sa2va.model.sam import memory_attention
from sa2va.model.sam import sam2 as sam2_module
from sa2va.model.sam.memory_attention import Memories
from sa2va.model.sam.memory_bank import Page
from sa2va.model.sam.sam2 import FrameFeatures, Memory, Sam2
from sa2va.model.sam.tracker import SOFT, STOCK, ObjectMemory, Tracker, nearest_frames

NUM_FRAMES, NUM_PROMPTED = 10, 2


@pytest.fixture(scope="module")
def sam2() -> Sam2:
    return build_sam2()


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return draw_clip(64)


@pytest.fixture(scope="module")
def seen(sam2: Sam2, clip: Tensor) -> list[FrameFeatures]:
    """Features of each frame, encoded once for all tests."""
    with torch.no_grad():
        return [sam2.encode_frames(frame[None]) for frame in clip]


def embeddings(number: int) -> Tensor:
    return torch.randn(number, WIDTH, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def prompt_all(tracker: Tracker, frame: int, features: FrameFeatures, prompts: Tensor, ids: Iterable[int]) -> Tensor:
    """Prompt objects on one frame; return their masks (N, h, w)."""
    sam2, rows = tracker._sam2, features.expand(len(prompts))
    sparse = sam2.language_prompt(prompts, len(prompts))
    output = sam2.decode(sam2.without_memory(rows.embeds), rows.high_res, sparse)
    tracker.prompt(frame, features, output, ids=list(ids))
    return output.mask_logits


@torch.no_grad()
def track(sam2: Sam2, seen: list[FrameFeatures], starts: dict[int, int]) -> dict[int, dict[int, Tensor]]:
    """Track objects in one batch, each prompted once on its own frame: object -> frame -> (h, w)."""
    tracker, found = Tracker(sam2), {key: {} for key in starts}
    for t, features in enumerate(seen):
        ids = list(tracker.objects)
        masks = tracker.step(t, features).mask_logits if ids else ()
        new = [key for key, start in starts.items() if start == t]
        drawn = prompt_all(tracker, t, features, embeddings(9)[new], new) if new else ()
        for key, mask in zip([*ids, *new], [*masks, *drawn], strict=True):
            found[key][t] = mask
    return found


def test_several_objects_equal_the_library_one_by_one(sam2: Sam2, clip: Tensor, seen: list[FrameFeatures]) -> None:
    tracker, prompts = Tracker(sam2, num_frames=NUM_FRAMES), embeddings(3)
    found = [prompt_all(tracker, t, seen[t], prompts, range(3)) for t in range(NUM_PROMPTED)]
    with torch.no_grad():
        found += [tracker.step(t, seen[t]).mask_logits for t in range(NUM_PROMPTED, NUM_FRAMES)]
    for row in range(3):
        reference = follow_language(sam2, clip[:NUM_FRAMES], prompts[row], NUM_PROMPTED)
        for t in range(NUM_FRAMES):
            assert torch.allclose(found[t][row], reference[t][0][0], atol=1e-4), (row, t)


def test_objects_that_start_apart_equal_one_by_one(sam2: Sam2, seen: list[FrameFeatures]) -> None:
    starts = {0: 0, 1: 0, 2: 3, 3: 11}
    together = track(sam2, seen[:24], starts)
    for key, start in starts.items():
        (alone,) = track(sam2, seen[:24], {key: start}).values()
        assert alone.keys() == together[key].keys() == set(range(start, 24))
        for t in alone:
            assert torch.allclose(alone[t], together[key][t], atol=1e-3), (key, t)
        other = [(alone[t] > 0) != (together[key][t] > 0) for t in alone]
        assert torch.stack(other).float().mean() <= 5e-4, key


def test_attention_in_another_precision_goes_back_to_that_of_the_features(
    sam2: Sam2, seen: list[FrameFeatures], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(sam2)
    prompt_all(tracker, 0, seen[0], embeddings(2), [0, 1])
    prompt_all(tracker, 1, seen[1], embeddings(1), [0])  # one object has more memories
    whole = tracker.condition(2, seen[2], [1, 0])
    read = memory_attention.read_memories
    monkeypatch.setattr(sam2_module, "read_memories", lambda *tensors: read(*tensors).double())  # as autocast may
    again = tracker.condition(2, seen[2], [1, 0])
    assert again.dtype == whole.dtype == seen[2].embeds.dtype
    assert torch.equal(again, whole)


class Unbounded:
    """Memory of one object in lists that only grow, read by the rules of the paper."""

    def __init__(self, sam2: Sam2, num_frames: int | None = None) -> None:
        most = sam2.native.config.max_object_pointers_in_encoder
        self.sam2, self.max_pointers = sam2, most if num_frames is None else min(num_frames, most)
        self.prompted: dict[int, Memory] = {}
        self.tracked: dict[int, Memory] = {}

    def prompt(self, frame: int, features: FrameFeatures, prompt: Tensor) -> Tensor:
        sam2, embeds = self.sam2, self.sam2.without_memory(features.embeds)
        output = sam2.decode(embeds, features.high_res, sam2.language_prompt(prompt[None], 1))
        self.prompted[frame] = sam2.encode_memory(features.embeds, output)
        return output.mask_logits[0]

    def step(self, frame: int, features: FrameFeatures) -> Tensor:
        sam2, native = self.sam2, self.sam2.native
        temporal, dtype = native.memory_temporal_positional_encoding, features.embeds.dtype
        read = [(6, memory) for memory in self.prompted.values()]
        read += [(age - 1, self.tracked[frame - age]) for age in range(6, 0, -1) if frame - age in self.tracked]
        points = [(frame - index, memory.pointers) for index, memory in self.prompted.items()]
        points += [(age, self.tracked[frame - age].pointers) for age in range(1, 16) if frame - age in self.tracked]
        ages, kept = [age for age, _ in points], [pointers for _, pointers in points]
        pointers, places = native._process_object_pointers(
            ages, kept, self.max_pointers, *kept[0].shape, features.embeds.device
        )
        tokens = torch.cat([*(memory.features.to(dtype) for _, memory in read), pointers])
        positions = torch.cat([*(memory.positions + temporal[slot] for slot, memory in read), places])
        memories = Memories(tokens.transpose(0, 1), positions.transpose(0, 1), len(read), len(pointers))
        embeds = sam2.attend(features.embeds, [memories])
        output = sam2.decode(embeds, features.high_res, sam2.language_prompt(None, 1))
        self.tracked[frame] = sam2.encode_memory(features.embeds, output)
        return output.mask_logits[0]


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_the_bank_equals_unbounded_memory_bit_for_bit(version: str, clip: Tensor) -> None:
    sam2 = build_sam2(version)
    with torch.no_grad():
        seen = [sam2.encode_frames(frame[None]) for frame in clip]
        found, alone = track(sam2, seen, {0: 0})[0], Unbounded(sam2)
        for t, features in enumerate(seen):
            expected = alone.step(t, features) if t else alone.prompt(t, features, embeddings(9)[0])
            assert torch.equal(found[t], expected), t


def test_sixty_four_frames_equal_the_library(sam2: Sam2, clip: Tensor, seen: list[FrameFeatures]) -> None:
    reference = follow_language(sam2, clip, embeddings(9)[0], 1)
    found = track(sam2, seen, {0: 0})[0]
    assert max((found[t] - reference[t][0][0]).abs().max().item() for t in range(64)) < 1e-3


def test_memory_is_bounded(sam2: Sam2, seen: list[FrameFeatures]) -> None:
    tracker = Tracker(sam2, replace(SOFT, max_conditioning=3))
    with torch.no_grad():
        for t in range(24):
            if t % 4 == 0:
                prompt_all(tracker, t, seen[t], embeddings(2), range(2))
            else:
                tracker.step(t, seen[t])
            for memory in tracker.objects.values():
                assert len(memory.prompted) <= 4  # three, and the one of this frame
                assert len(memory.recent) <= 6 and len(memory.pointers) <= 15
            if t == 20:
                size = tracker._bank.num_bytes
    assert tracker._bank.num_bytes == size <= 2 * 2 * (4 + 6 + 1) * 16 * 64 * 2 + 2 * 2 * (4 + 15 + 1) * WIDTH * 4


def test_backwards_equals_the_library(sam2: Sam2, clip: Tensor, seen: list[FrameFeatures]) -> None:
    masks = draw_masks(2, 9, 7)
    stock = propagate(sam2, clip[:NUM_FRAMES], {n: {f: m[n] for f, m in masks.items()} for n in range(2)}, reverse=True)
    tracker, found = Tracker(sam2, STOCK, num_frames=NUM_FRAMES), {}
    with torch.no_grad():
        for frame, boxes in sorted(masks.items()):
            tracker.prompt(-frame, seen[frame], sam2.take_masks(seen[frame], boxes), given=boxes)
        for t in reversed(range(NUM_FRAMES)):
            if t not in masks:
                found[t] = tracker.step(-t, seen[t]).mask_logits
    assert found.keys() == stock.keys() - masks.keys()
    assert max((found[t] - stock[t][0]).abs().max().item() for t in found) < 1e-3


def test_a_removed_object_leaves_the_others_as_they_are(sam2: Sam2, seen: list[FrameFeatures]) -> None:
    alone, tracker = track(sam2, seen[:8], {1: 0})[1], Tracker(sam2)
    prompt_all(tracker, 0, seen[0], embeddings(9)[:2], range(2))
    with torch.no_grad():
        for t in range(1, 4):
            tracker.step(t, seen[t])
        tracker.remove(0)
        for t in range(4, 8):
            output = tracker.step(t, seen[t])
            assert output.mask_logits.shape == (1, 16, 16)
            assert torch.allclose(output.mask_logits[0], alone[t], atol=1e-3)


def test_nothing_prompted_is_refused(sam2: Sam2, seen: list[FrameFeatures]) -> None:
    with pytest.raises(ValueError, match="no frame has been prompted"):
        Tracker(sam2).step(0, seen[0])


frames = st.sets(st.integers(0, 40), max_size=8)


@given(frames, st.integers(0, 40), st.one_of(st.none(), st.integers(2, 6)))
def test_prompted_frames_are_chosen_as_the_library_does(prompted: set[int], frame: int, number: int | None) -> None:
    ordered = {index: index for index in sorted(prompted)}
    cap = -1 if number is None else number
    chosen, _ = Sam2VideoModel._select_closest_cond_frames(None, frame, ordered, cap)
    assert nearest_frames(ordered, frame, number) == set(chosen)


@settings(max_examples=30)
@given(frames, st.integers(1, 4))
def test_what_is_dropped_is_never_missed(sam2: Sam2, prompted: set[int], number: int) -> None:
    """Prompted frames may be ahead; dropping past ones does not change the selection."""
    memory = ObjectMemory(sam2, number)
    for index in sorted(prompted):
        memory.prompt(index, Page(0, 0))
    for frame in range(41):
        assert set(memory.choose(frame)) == nearest_frames(sorted(prompted), frame, number)
        assert sum(index < frame for index in memory.prompted) <= number
