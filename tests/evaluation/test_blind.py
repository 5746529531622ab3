"""Check the masks made without looking."""

import numpy as np

from sa2va.evaluation.blind import BlindMasks, center_box, largest_random_box, whole_picture


def test_blind_masks_have_their_shapes() -> None:
    assert whole_picture((3, 4)).all()
    box = center_box((40, 60), 0.5)
    assert box.sum() == 20 * 30
    assert box[10:30, 15:45].all()
    rng = np.random.default_rng(0)
    areas = [largest_random_box((40, 60), rng).mean() for _ in range(200)]
    assert 0.3 < np.mean(areas) < 0.7  # one random box covers a ninth on average
    first = BlindMasks(seed=3).draw((40, 60), 2)
    assert all((a == b).all() for a, b in zip(first, BlindMasks(seed=3).draw((40, 60), 2), strict=True))
