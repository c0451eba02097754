"""Which model is meant, and how may it be fetched?"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from dialocpp.errors import brief

DEMO_NAME = "dialocpp-demo"


@dataclass(frozen=True)
class Source:
    """Which model, and how may it be fetched? `name` is a folder, a Hub id, or None for the bundled model.

    `subfolder` is where in the folder or repo the model lies. The others matter to a Hub id alone: `revision` is a
    branch, tag or commit, `cache_dir` the place of the downloads, `token` as huggingface_hub takes it (it is never
    shown).
    """

    name: str | os.PathLike[str] | None = None
    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    local_files_only: bool = False
    token: str | bool | None = field(default=None, repr=False)
    subfolder: str = ""

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.subfolder).parts
        if any(part in ("/", "..") for part in parts) or "\\" in self.subfolder or "\0" in self.subfolder:
            raise ValueError(
                f"expected subfolder to be a path inside of the model's folder, found {brief(self.subfolder)}; "
                "give the folder itself as the model"
            )

    @classmethod
    def of(cls, given: Source | str | os.PathLike[str] | None) -> Source:
        """A name alone is a source without wishes."""
        return given if isinstance(given, Source) else cls(given)

    @property
    def inside(self) -> tuple[str, ...]:
        """The subfolder, part by part."""
        return PurePosixPath(self.subfolder).parts

    @property
    def title(self) -> str:
        """The name for people."""
        return DEMO_NAME if self.name is None else os.fspath(self.name)
