"""Which plain Python number is meant, where somebody gives one of numpy's?"""

from __future__ import annotations

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A numpy scalar, or an array that holds one without an axis, as Python's own; all else as it is."""
    if isinstance(value, np.floating):
        return float(value)  # item() would leave a long double as it is
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value


def plain_list(value: Any) -> Any:
    """A numpy array with axes as lists of Python's own numbers; all else as it is."""
    return value.tolist() if isinstance(value, np.ndarray) and value.ndim else value
