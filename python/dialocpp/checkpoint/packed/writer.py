"""How is a packed checkpoint written, tensor by tensor?"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.element_types import ITEM_BYTES, numpy_dtype
from dialocpp.checkpoint.own_files.whole_file import replacing

from .format import FORMAT, VERSION, header_bytes
from .pack import Array, packed_table

_LATER = "0" * 64  # a hash that is known only when the data is written


def write_packed(
    path: Path,
    config: ModelConfig,
    dtype: str,
    source_sha256: Callable[[], str],
    tensors: Iterable[tuple[str, Array]],
) -> None:
    """Write a packed file that readers see only when it is whole. OSError if the folder cannot be written."""
    with replacing(path) as file:
        write_packed_to(file, config, dtype, source_sha256, tensors)


def write_packed_to(
    file: BinaryIO,
    config: ModelConfig,
    dtype: str,
    source_sha256: Callable[[], str],
    tensors: Iterable[tuple[str, Array]],
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write `packed_tensors`' output to a new file as it comes, so that one tensor at a time is in memory.

    `source_sha256` is called when all tensors are written: it may still be under way until then. `extra` goes to the
    metadata. OSError if the disk is full.
    """
    from dialocpp import __version__  # not above: the package imports this file while it starts

    table = packed_table(config, dtype)
    metadata = {
        "format": FORMAT,
        "format_version": str(VERSION),
        "dtype": dtype,
        "config": json.dumps(config.to_dict(), sort_keys=True),
        "source_sha256": _LATER,
        "data_sha256": _LATER,
        "producer": f"dialocpp {__version__}",
        **(extra or {}),
    }
    digest = hashlib.sha256()
    header = header_bytes(metadata, table)
    _reserve(file, len(header) + sum(prod(shape) * ITEM_BYTES[stored] for stored, shape in table.values()))
    file.write(header)
    for (name, array), (expected, (stored, shape)) in zip(tensors, table.items(), strict=True):
        if (name, array.dtype, array.shape) != (expected, numpy_dtype(stored), shape):
            raise ValueError(
                f"expected {expected} {stored} {shape}, found {name} {array.dtype} {array.shape}; "
                "give the tensors as packed_tensors yields them"
            )
        content = np.ascontiguousarray(array).data
        file.write(content)
        digest.update(content)
    file.seek(0)
    hashes = {"source_sha256": source_sha256(), "data_sha256": digest.hexdigest()}
    file.write(header_bytes(metadata | hashes, table))


def _reserve(file: BinaryIO, size: int) -> None:
    """Find out now, not after minutes, that a disk is too full; some file systems cannot tell."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
