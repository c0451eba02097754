"""How is the JSON of a model read, when anything may stand in it?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dialocpp.errors import CheckpointError

from .regular_file import MAX_BYTES, read_bytes

Pairs = Callable[[list[tuple[str, Any]]], Any]


def parse_json(text: str | bytes, pairs: Pairs | None = None) -> Any:
    """The value; ValueError for what is no JSON in UTF-8 or nests deeper than Python follows.

    A byte-order mark at the start is skipped. `pairs` makes an object of its names and values.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("brackets nested too deep") from None


def read_json_object(path: Path, limit: int = MAX_BYTES) -> dict[str, Any]:
    """The JSON object in a file; CheckpointError if it is not there, too large, not JSON or not an object."""
    data = read_bytes(path, limit)
    try:
        values = parse_json(data)
    except ValueError as error:
        raise CheckpointError(f"expected JSON in {path}, found something else ({error}); download it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"expected a JSON object in {path}, found {type(values).__name__}; download it again")
    return values
