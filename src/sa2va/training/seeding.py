"""Seed every random generator from (seed, stage, step), so that a step never depends on the steps before it.

Flow: prefetch.py seeds before a batch is prepared, loop.py before the losses; a resumed run draws the same numbers.
    What trains something on the side does so within `seeded`, which leaves the generators of the process alone.
"""

import random
import zlib
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


def seed_step(seed: int, stage: str, step: int, *, salt: int = 0) -> None:
    """Seed `random`, numpy and torch as a pure function of the arguments.

    Args:
        seed: the stage's seed, >= 0.
        stage: name of the stage, so that two stages of one seed differ.
        step: number of the step, >= 0.
        salt: separates the uses within one step (0 batch, 1 losses, 2 validation).
    """
    entropy = np.random.SeedSequence([seed, zlib.crc32(stage.encode()), step, salt])
    words = entropy.generate_state(3, dtype=np.uint64)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]) % 2**32)
    # torch.manual_seed walks the stack for each GPU call it defers: half a millisecond, so seed what exists
    torch.default_generator.manual_seed(int(words[2]) % 2**63)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(int(words[2]) % 2**63)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Seed torch for a block of code; afterwards `random`, numpy and torch go on as if it had not run.

    Args:
        seed: of torch within the block, >= 0.
    """
    plain, arrays = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(arrays)
