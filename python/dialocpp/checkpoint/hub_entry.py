"""Which snapshot does an entry of the Hub's cache mean? Looked up in the folders, without huggingface_hub.

An entry is a folder `models--owner--name` with `refs/main` (the commit of a branch) and `snapshots/COMMIT`.
"""

from __future__ import annotations

import re
from pathlib import Path

from dialocpp.errors import CheckpointError

from .files import CHECKPOINT_FILES
from .regular_file import read_text

_COMMIT = re.compile(r"\w[\w.-]*")
_MAX_REF = 4096  # bytes
_NAMED = 4


def commit_of(entry: Path, revision: str | None) -> str | None:
    """The commit that a branch or tag had when it was last downloaded; None if the cache knows none.

    Editors and scripts leave a newline at the end of such a file.
    """
    path = entry / "refs" / (revision or "main")
    if not path.is_file():
        return None
    commit = read_text(path, _MAX_REF).strip()
    return commit if _COMMIT.fullmatch(commit) else None


def snapshot_in(folder: Path, revision: str | None) -> Path:
    """The snapshot in a cache's entry or in its `snapshots`; any other folder as it is.

    CheckpointError where there are several and neither the revision nor `refs/main` names one of them.
    """
    entry = folder.parent if folder.name == "snapshots" else folder
    snapshots = entry / "snapshots"
    if not snapshots.is_dir() or any((folder / name).is_file() for name in CHECKPOINT_FILES):
        return folder
    for commit in (revision, commit_of(entry, revision)):
        if commit and _COMMIT.fullmatch(commit) and (snapshots / commit).is_dir():
            return snapshots / commit
    found = sorted(path.name for path in snapshots.iterdir() if path.is_dir())
    if len(found) == 1 and revision is None:
        return snapshots / found[0]
    names = ", ".join(found[:_NAMED]) or "none"
    raise CheckpointError(
        f"expected one snapshot of a model in {snapshots}, found {names}; give the folder of the one that you mean"
    )
