"""Count the times that tracking waits for an accelerator."""

import numpy as np
import pytest
from support.fake_device import FakeDevice
from support.small_model import build_model
from support.small_session import draw_frames

from sa2va.inference.predictor import Predictor

BOXES = [(8, 12, 40, 44), (20, 4, 50, 30), (2, 30, 30, 60)]


@pytest.mark.parametrize("number", [1, 3])
def test_a_frame_waits_once(number: int) -> None:
    """The one wait is the copy that hands out the masks with their scores; all indices go up in one copy."""
    model, processor = build_model()
    frames = np.concatenate([draw_frames()] * 3)
    with FakeDevice() as device:
        device.put(model)
        predictor = Predictor(model.eval(), processor)
        with predictor.track(frames, prefetch=False) as session:
            for box in BOXES[:number]:
                session.add(box=box)
            next(session), next(session)  # the first step computes constants
            device.take()
            for result in session:
                counts = device.take()
                assert len(counts.waits) == 1, counts.waits
                assert len(counts.uploads) <= 2, counts.uploads  # pixels, and indices of the memory
                assert len(result.objects) == number
    assert result.index == len(frames) - 1 > 16  # until the memory is full


def test_objects_that_start_apart_share_a_step() -> None:
    """Objects with fewer memories than others take part in the same launches, with a mask."""
    model, processor = build_model()
    launches = []
    with FakeDevice() as device:
        device.put(model)
        predictor = Predictor(model.eval(), processor)
        for starts in ((0, 0), (0, 2)):
            with predictor.track(draw_frames(), prefetch=False) as session:
                for index in range(5):
                    session.frame if not index else next(session)
                    for _ in range(starts.count(index)):
                        session.add(box=BOXES[0])
                device.take()
                next(session)
                counts = device.take()
                assert len(counts.waits) == 1
                launches.append(counts.num_launches)
    assert launches[1] <= launches[0] + 10
