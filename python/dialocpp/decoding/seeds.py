"""Which random numbers does a reply use? A seed that nobody gave, and those that follow from one."""

from __future__ import annotations

import hashlib
import os


def fresh_seed() -> int:
    """A seed from the operating system."""
    return int.from_bytes(os.urandom(8), "little")


def derived_seed(seed: int, *counters: int) -> int:
    """A seed for one turn of a conversation that began with `seed`."""
    text = ":".join(map(str, (seed, *counters))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
