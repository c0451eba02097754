"""What could this machine do at best? The roofs beside which every speed is shown."""

from __future__ import annotations

from dataclasses import dataclass

from dialocpp import _core

# Several times the last-level cache of a large server, so that memory and not the cache is measured.
_READ_BYTES = 256 << 20


@dataclass(frozen=True)
class Roofs:
    """Measured, with so many threads at once."""

    num_threads: int
    read_gb_s: float
    int8_gop_s: float
    float32_gop_s: float

    def gop_s(self, dtype: str) -> float:
        """The peak of the arithmetic that a model of this dtype uses."""
        return self.int8_gop_s if dtype == "int8" else self.float32_gop_s


def measure_roofs(num_threads: int) -> Roofs:
    """About half a second, and 256 MiB of memory for that long."""
    read, int8, float32 = _core.roofs(num_threads, _READ_BYTES)
    return Roofs(num_threads, read / 1e9, int8 / 1e9, float32 / 1e9)
