"""How is a JSON file of a model read?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dialocpp.errors import CheckpointError


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; CheckpointError if it is not there, not JSON or not an object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"expected a readable file {path}, found none ({error.strerror}); check the folder"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"expected JSON in {path}, found something else ({error}); download it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"expected a JSON object in {path}, found {type(values).__name__}; download it again")
    return values
