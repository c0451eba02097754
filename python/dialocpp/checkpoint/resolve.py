"""Which folder does a model's name stand for?"""

# ruff: noqa: PTH110, PTH111, PTH112 - os.path says no where pathlib raises: unknown ~user, overlong name

from __future__ import annotations

import os
import re
from pathlib import Path

from dialocpp.errors import CheckpointError

from .model_source import Source

DEMO_FOLDER = Path(__file__).parents[1] / "demo_model"

# `gpt2` or `microsoft/DialoGPT-small`; a name with a leading dot, a tilde or more parts can only be a path.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve(source: Source) -> Path:
    """A folder as it is, the bundled model's for None, else the snapshot of a Hub repo."""
    if source.name is None:
        return _demo()
    given = os.fspath(source.name)
    if not given:
        raise CheckpointError(
            "expected a model's name or folder, found an empty text; leave it out for the bundled model"
        )
    path = os.path.expanduser(given)
    if os.path.isdir(path):
        return Path(path)
    if os.path.exists(path):
        raise CheckpointError(f"expected a model's folder, found the file {path}; give the folder that holds it")
    if not isinstance(source.name, str) or not _HUB_ID.fullmatch(given):
        raise CheckpointError(
            f"expected a model's folder or a Hub id, found {given!r}, which is no folder here and no name that the Hub "
            "allows; check the path"
        )
    # Imported here, because huggingface_hub takes longer to import than the bundled model to load.
    from .hub import download

    return download(given, source)


def _demo() -> Path:
    if not DEMO_FOLDER.is_dir():
        raise CheckpointError(f"expected the bundled model in {DEMO_FOLDER}, found no such folder; reinstall dialocpp")
    return DEMO_FOLDER
