"""Compare the tracker with the library's unbounded session, and check its bounds."""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stock_sam2 import WIDTH, build_sam2, draw_clip, draw_masks, follow_language, propagate
from torch import Tensor
from transformers import Sam2VideoModel

from sa2va.model.sam import tracker as tracker_module
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
    attend = sam2.attend
    monkeypatch.setattr(sam2, "attend", lambda *tensors, **sizes: attend(*tensors, **sizes).double())  # as autocast may
    again = tracker.condition(2, seen[2], [1, 0])
    assert again.dtype == whole.dtype == seen[2].embeds.dtype
    assert torch.equal(again, whole)


def test_the_ring_equals_unbounded_memory_bit_for_bit(
    sam2: Sam2, seen: list[FrameFeatures], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = {0: 0, 1: 5}
    bounded = track(sam2, seen, starts)

    def endless(items: Iterable[Any] = (), maxlen: int | None = None) -> deque[Any]:
        return deque(items)

    monkeypatch.setattr(tracker_module, "deque", endless)
    unbounded = track(sam2, seen, starts)
    for key in starts:
        assert all(torch.equal(bounded[key][t], unbounded[key][t]) for t in bounded[key])


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
                kept = [*memory.prompted.values(), *(item for _, item in memory.recent)]
                assert all(item.features.untyped_storage().nbytes() == 16 * 64 * 2 for item in kept)


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
    memory, blank = ObjectMemory(sam2, number), Memory(*torch.zeros(3, 1))
    for index in sorted(prompted):
        memory.prompt(index, blank)
    for frame in range(41):
        assert set(memory.choose(frame)) == nearest_frames(sorted(prompted), frame, number)
        assert sum(index < frame for index in memory.prompted) <= number
