"""Which model is meant, and how may it be fetched?"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

DEMO_NAME = "dialocpp-demo"


@dataclass(frozen=True)
class Source:
    """Which model, and how may it be fetched? `name` is a folder, a Hub id, or None for the bundled model.

    The other fields matter to a Hub id alone: `revision` is a branch, tag or commit, `cache_dir` the place of the
    downloads, `token` as huggingface_hub takes it (it is never shown).
    """

    name: str | os.PathLike[str] | None = None
    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    local_files_only: bool = False
    token: str | bool | None = field(default=None, repr=False)

    @classmethod
    def of(cls, given: Source | str | os.PathLike[str] | None) -> Source:
        """A name alone is a source without wishes."""
        return given if isinstance(given, Source) else cls(given)

    @property
    def title(self) -> str:
        """The name for people."""
        return DEMO_NAME if self.name is None else os.fspath(self.name)
