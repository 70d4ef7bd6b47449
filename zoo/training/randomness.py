"""Random numbers that depend on where a run is, not on how it got there."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *place: int | str) -> int:
    """A 63-bit seed for one place of a run, e.g. `derive(seed, "step", 17)`; the same on every machine."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_host(seed: int) -> None:
    """Seed the generators that augmentation draws from: Python's, NumPy's and torch's on the CPU."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch on every device."""
    seed_host(seed)
    torch.manual_seed(seed)


def order(size: int, seed: int, epoch: int) -> list[int]:
    """A permutation of `size` indices: a function of (seed, epoch) and of nothing else."""
    generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
    return torch.randperm(size, generator=generator).tolist()


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Give the caller's generators back as they were."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
