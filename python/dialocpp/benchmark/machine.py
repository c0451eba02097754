"""Where and with what was it measured? And how much memory did this process need?"""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

import dialocpp
from dialocpp import _core
from dialocpp.model import Model

# How many tokens' logits are hashed.
_HASHED_TOKENS = 32


def machine() -> dict[str, Any]:
    """The processor, what of it is used, and the versions. Nothing that identifies the host."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "isa": _core.chosen_isa(),
        "cpu_features": _core.cpu_features(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "dialocpp": dialocpp.__version__,
    }


def cpu_name() -> str:
    """As the system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_rss_bytes() -> int:
    """The most memory that this process has held, mapped weights that it touched included."""
    try:
        # Not getrusage: on Linux its value survives exec, so it may be the parent's.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def logits_sha256(model: Model) -> str:
    """SHA-256 of the float32 logits after a fixed prompt: the same wherever the arithmetic is the same."""
    count = min(_HASHED_TOKENS, model.config.n_positions)
    tokens = [(7 * i + 1) % model.config.vocab_size for i in range(count)]
    return hashlib.sha256(model.logits(tokens).astype("<f4").tobytes()).hexdigest()


def describe_model(model: Model) -> dict[str, Any]:
    """The model's shape and form; of a folder only its name."""
    config = model.config
    return {
        "name": Path(model.name).name,
        "dtype": model.dtype,
        "layers": config.n_layer,
        "channels": config.n_embd,
        "vocabulary": config.vocab_size,
        "positions": config.n_positions,
        "weight_bytes": model.weight_bytes,
        "logits_sha256": logits_sha256(model),
    }
