"""Draw plain shapes that the embedded model knows, without the drawn world."""

import numpy as np

CIRCLE, SQUARE = "Please segment the red circle.", "Please segment the blue square."


def draw_shapes(num_frames: int = 1, background: int = 200) -> np.ndarray:
    """Return a red circle that moves to the right over a blue square: uint8 (T, 96, 128, 3)."""
    frames = np.full((num_frames, 96, 128, 3), background, np.uint8)
    frames[:, 50:80, 80:110] = (40, 60, 220)
    y, x = np.mgrid[:96, :128]
    for t, frame in enumerate(frames):
        frame[(y - 30) ** 2 + (x - 30 - 3 * t) ** 2 <= 16**2] = (220, 40, 40)
    return frames
