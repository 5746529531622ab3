"""Compare samples that the core reads with the drawn samples they were written from."""

from collections.abc import Sequence

import numpy as np

from sa2va.data.stored import DrawConfig
from sa2va.types import Sample

EVERY = DrawConfig(num_expressions=100)  # all expressions of a record in one conversation


def asked(question: str, texts: Sequence[str]) -> str:
    """Return the expression that a question asks for."""
    return max((text for text in texts if text in question), key=len)


def assert_same_pictures(read: Sample, drawn: np.ndarray) -> None:
    """JPEG and H.264 lose little: check the size and the mean difference of frames, uint8 (T, H, W, 3)."""
    frames = read.frames
    assert frames.shape == drawn.shape
    assert np.abs(frames.astype(int) - drawn).mean() < 4


def assert_same_answers(read: Sample, drawn: Sample, kinds: Sequence[str]) -> None:
    """Check that a sample asks for every expression of some kinds once, and answers with exactly the drawn masks."""
    written = zip(drawn.meta["kinds"], drawn.meta["expressions"], drawn.meta["targets"], strict=True)
    wanted = {text: targets for kind, text, targets in written if kind in kinds}
    found = set()
    for turn in read.turns:
        text = asked(turn.question, list(wanted))
        found.add(text)
        if not wanted[text]:
            assert not turn.spans and turn.answer == f"There is no {text.removeprefix('the ')}."
            continue
        (span,) = turn.spans
        assert np.array_equal(
            read.tracks.masks(span.objects, range(read.num_frames)), drawn.masks[list(wanted[text])]
        ), text
    assert found == set(wanted) and len(read.turns) == len(wanted)
