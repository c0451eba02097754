"""Which random numbers does a reply use? A seed that nobody gave, and those that follow from one."""

from __future__ import annotations

import hashlib
import os

from .scalars import plain


def fresh_seed() -> int:
    """A seed from the operating system."""
    return int.from_bytes(os.urandom(8), "little")


def checked_seed(seed: int) -> int:
    """The seed as Python's integer. TypeError or ValueError for what is none."""
    seed = plain(seed)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"expected seed to be an integer or None, found {seed!r}; give one or leave it out")
    if not 0 <= seed < 2**64:
        raise ValueError(f"expected seed to be from 0 to 2**64 - 1, found {seed}; give another one")
    return seed


def derived_seed(seed: int, *counters: int) -> int:
    """A seed for one turn of a conversation that began with `seed`."""
    text = ":".join(map(str, (seed, *counters))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
