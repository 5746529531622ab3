"""Seed every random generator from strings and integers, so that a step never depends on earlier steps.

Flow: loader.py seeds before each item, trainer.py before the losses; a resumed run gets the same random numbers.
    `seeded` restores the generators of the process, for training within another run.
"""

import random
import zlib
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(*words: int | str) -> None:
    """Seed `random`, numpy and torch as a pure function of the arguments, integers >= 0 or strings."""
    numbers = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in words]
    seeds = np.random.SeedSequence(numbers).generate_state(3, dtype=np.uint64)
    random.seed(int(seeds[0]))
    np.random.seed(int(seeds[1]) % 2**32)
    # torch.manual_seed takes half a millisecond without a GPU, since it records the stack of each deferred call.
    torch.default_generator.manual_seed(int(seeds[2]) % 2**63)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(int(seeds[2]) % 2**63)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Seed torch within a block; restore the generators of `random`, numpy and torch afterwards.

    Args:
        seed: seed of torch within the block, >= 0.
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
