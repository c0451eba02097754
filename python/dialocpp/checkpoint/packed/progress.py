"""How far is the packing? A bar for whoever sits at a terminal, nothing for all others."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from math import prod

from dialocpp.checkpoint.element_types import ITEM_BYTES

from .format import Table
from .pack import Array

_OFF = ("1", "ON", "YES", "TRUE")


def shown(tensors: Iterable[tuple[str, Array]], table: Table, what: str) -> Iterator[tuple[str, Array]]:
    """The same tensors, with a bar on stderr for their bytes; HF_HUB_DISABLE_PROGRESS_BARS turns it off."""
    switched_off = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").upper() in _OFF
    if switched_off or sys.stderr is None or not sys.stderr.isatty():
        yield from tensors
        return
    from rich.console import Console  # here, because only a first load needs it
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(what, total=sum(prod(shape) * ITEM_BYTES[dtype] for dtype, shape in table.values()))
        for name, array in tensors:
            yield name, array
            bars.advance(bar, array.nbytes)
