"""Where does a text end that must end at one of some strings?"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Cuts a growing text before the first stop string in it. One object a text."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """What of the text so far is sure to stay: all but an end that may yet become a stop string."""
        if self.found:
            return ""
        text = self._held + piece
        starts = [start for start in (text.find(string) for string in self._strings) if start >= 0]
        if starts:
            self.found, self._held = True, ""
            return text[: min(starts)]
        kept = len(text) - self._unsure(text)
        self._held = text[kept:]
        return text[:kept]

    def flush(self) -> str:
        """The end that became no stop string."""
        rest, self._held = self._held, ""
        return rest

    def _unsure(self, text: str) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = min(len(text), max(map(len, self._strings), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(string.startswith(text[-length:]) for string in self._strings):
                return length
        return 0


def cut(text: str, strings: Sequence[str]) -> str:
    """A whole text, cut before the first stop string in it."""
    stops = StopStrings(strings)
    return stops.push(text) + stops.flush()
