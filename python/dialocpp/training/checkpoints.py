"""How does a run survive a kill? Its whole state in one file, written beside the old one and then put in its place."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

FOLDER = ".training"
_STATE = "state.pt"
_TEMPORARY = ".writing"


@dataclass(frozen=True)
class Saved:
    """What a run goes on from."""

    step: int
    state: dict[str, Any]


class Checkpoints:
    """The state of one run, `digest` long known, in a folder of its own."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder / FOLDER
        self._digest = digest
        self._file = self.folder / _STATE

    def load(self) -> Saved | None:
        """The last whole state, or None for a new run. ValueError if it is another run's."""
        with suppress(FileNotFoundError):
            self._temporary.unlink()  # what a kill left half written
        if not self._file.exists():
            return None
        # weights_only: tensors, numbers and containers; nothing in the file is run.
        state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        if state["digest"] != self._digest:
            raise ValueError(
                f"{self.folder}: expected the state of this run, found one with another plan or other data; "
                "use the same arguments, --restart, or another folder"
            )
        return Saved(state["step"], state)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Replace the last state: at every moment one whole file is there. OSError keeps the old one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with self._temporary.open("wb") as file:
                torch.save(state | {"digest": self._digest, "step": step}, file)
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self._file)
        except BaseException:
            with suppress(OSError):
                self._temporary.unlink()
            raise

    def clear(self) -> None:
        """After the last step: the result is saved elsewhere."""
        for file in (self._temporary, self._file):
            with suppress(FileNotFoundError):
                file.unlink()
        with suppress(OSError):
            self.folder.rmdir()

    @property
    def _temporary(self) -> Path:
        return self.folder / (_STATE + _TEMPORARY)
