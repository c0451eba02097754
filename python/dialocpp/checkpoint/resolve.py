"""Which folder does a model's name stand for?"""

# ruff: noqa: PTH110, PTH111, PTH112 - os.path says no where pathlib raises: unknown ~user, overlong name

from __future__ import annotations

import os
import re
from pathlib import Path

from dialocpp.errors import CheckpointError, brief

from .hub_entry import snapshot_in
from .model_source import Source

DEMO_FOLDER = Path(__file__).parents[1] / "demo_model"

# `gpt2` or `microsoft/DialoGPT-small`; a name with a leading dot, a tilde or more parts can only be a path.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve(source: Source) -> Path:
    """A folder as it is, the bundled model's for None, else the snapshot of a Hub repo; in each the subfolder."""
    from_hub = _from_hub(source)
    if from_hub:
        # Imported here, because huggingface_hub takes longer to import than the bundled model to load.
        from .hub import download

        return download(from_hub, source)
    return _local(source)


def resolve_tokenizer(source: Source) -> Path:
    """The same for a source of which only the tokenizer is needed: of a Hub repo nothing else is downloaded."""
    from_hub = _from_hub(source)
    if from_hub:
        from .hub import download_tokenizer

        return download_tokenizer(from_hub, source)
    return _local(source)


def _from_hub(source: Source) -> str:
    """The name of the repo to ask for, or nothing where a folder is meant."""
    if source.name is None:
        return ""
    given = os.fspath(source.name)
    if not given:
        raise CheckpointError(
            "expected a model's name or folder, found an empty text; leave it out for the bundled model"
        )
    path = os.path.expanduser(given)
    is_id = isinstance(source.name, str) and _HUB_ID.fullmatch(given) is not None
    # An empty folder, which a failed download or clone has left, does not stand in the way of a Hub id.
    if os.path.isdir(path) and not (is_id and _is_bare(Path(path))):
        return ""
    if os.path.exists(path) and not os.path.isdir(path):
        raise CheckpointError(f"expected a model's folder, found the file {path}; give the folder that holds it")
    if not is_id:
        raise CheckpointError(
            f"expected a model's folder or a Hub id, found {brief(given)}, which is no folder here and no name that "
            "the Hub allows; check the path"
        )
    return given


def _local(source: Source) -> Path:
    """The folder that a source names."""
    if source.name is None:
        return _demo()
    folder = snapshot_in(Path(os.path.expanduser(os.fspath(source.name))), source.revision).joinpath(*source.inside)
    if not folder.is_dir():
        raise CheckpointError(f"expected the subfolder {folder}, found none; check its name")
    return folder


def _is_bare(folder: Path) -> bool:
    """Whether nothing that one can see lies in a folder."""
    return all(path.name.startswith(".") for path in folder.iterdir())


def _demo() -> Path:
    if not DEMO_FOLDER.is_dir():
        raise CheckpointError(f"expected the bundled model in {DEMO_FOLDER}, found no such folder; reinstall dialocpp")
    return DEMO_FOLDER
