"""Who wrote each character of a text that a template has put together?

A `Traced` is a str that remembers it: the template, one of the messages, or nobody knows. It is equal to the plain str
and behaves like it; what cuts, joins and changes texts keeps the origins. So a template may do with a message what it
likes, and what a user wrote can still be told from what the model's author wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, SupportsIndex

UNKNOWN, OURS = "\0", "\1"  # origins; "ours" are the template and the names of roles and special tokens
_FIRST_MESSAGE = 2
_PERCENT = re.compile(r"%(?:\(\w+\))?[-+ #0]*\d{0,3}(?:\.\d{0,3})?[a-zA-Z%]")


def message_origin(index: int) -> str:
    """The origin of what the message with this index says."""
    return chr(_FIRST_MESSAGE + index)


class Traced(str):
    """A text with an origin for each of its characters."""

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, text: str, origin: str = UNKNOWN) -> Traced:
        """`origin`: one for all characters, or one for each."""
        self = super().__new__(cls, text)
        self.origin = origin if len(origin) == len(text) and len(text) != 1 else origin[:1] * len(text)
        return self

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> Traced:
        return joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> Traced:
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, count: SupportsIndex) -> Traced:
        return _traced(str.__mul__(self, count), self.origin * count)

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> Traced:
        return percent(self, values)

    def __getitem__(self, key: SupportsIndex | slice) -> Traced:
        return _traced(str.__getitem__(self, key), self.origin[key])

    def __iter__(self) -> Iterator[str]:
        return (_traced(char, origin) for char, origin in zip(str.__iter__(self), self.origin, strict=True))

    def lstrip(self, chars: str | None = None) -> Traced:
        return self[len(self) - len(str.lstrip(self, chars)) :]

    def rstrip(self, chars: str | None = None) -> Traced:
        return self[: len(str.rstrip(self, chars))]

    def strip(self, chars: str | None = None) -> Traced:
        return self.rstrip(chars).lstrip(chars)

    def removeprefix(self, prefix: str) -> Traced:
        return self[len(self) - len(str.removeprefix(self, prefix)) :]

    def removesuffix(self, suffix: str) -> Traced:
        return self[: len(str.removesuffix(self, suffix))]

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return list(self._found(str.split(self, sep, maxsplit), len(sep or "")))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return list(self._found(str.rsplit(self, sep, maxsplit), len(sep or "")))

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines = self._found(str.splitlines(self, True), 0)
        return [line[: len(text)] for line, text in zip(lines, str.splitlines(self, keepends), strict=True)]

    def partition(self, sep: str) -> tuple[str, str, str]:
        before, found, after = self._found(str.partition(self, sep), 0)
        return before, found, after

    def rpartition(self, sep: str) -> tuple[str, str, str]:
        before, found, after = self._found(str.rpartition(self, sep), 0)
        return before, found, after

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> Traced:
        if not old:
            return settled(str.replace(self, old, new, count), (self, new))
        return joined(self.split(old, count), new)

    def join(self, texts: Iterable[str], /) -> Traced:
        return joined(texts, self)

    def upper(self) -> Traced:
        return self._changed(str.upper(self))

    def lower(self) -> Traced:
        return self._changed(str.lower(self))

    def title(self) -> Traced:
        return self._changed(str.title(self))

    def capitalize(self) -> Traced:
        return self._changed(str.capitalize(self))

    def casefold(self) -> Traced:
        return self._changed(str.casefold(self))

    def swapcase(self) -> Traced:
        return self._changed(str.swapcase(self))

    def _changed(self, text: str) -> Traced:
        """Each character by another one; a few grow (ß to SS), and then nobody knows which is which."""
        return _traced(text, self.origin) if len(text) == len(self) else settled(text, (self,))

    def _found(self, parts: Iterable[str], gap: int) -> Iterator[Traced]:
        """Parts of this text in their order; `gap` characters between them, or for 0 as many as need be."""
        end = -gap
        for part in parts:
            begin = end + gap if gap else str.find(self, part, max(0, end))
            end = begin + len(part)
            yield self[begin:end]


def _traced(text: str, origin: str) -> Traced:
    """With exactly this origin for each character."""
    self = str.__new__(Traced, text)
    self.origin = origin
    return self


def origins(text: str) -> str:
    """The origin of each character; of a plain str nobody knows it."""
    return text.origin if isinstance(text, Traced) else UNKNOWN * len(text)


def joined(texts: Iterable[str], separator: str = "") -> Traced:
    """What `separator.join(texts)` says."""
    parts = list(texts)
    return _traced(str.join(separator, parts), str.join(origins(separator), map(origins, parts)))


def settled(text: str, sources: Iterable[Any]) -> Traced:
    """A text that was made of these values in a way that kept no origins.

    Made of the template's own texts alone, it is the template's; of messages alone, theirs; of both, nobody knows.
    """
    found = "".join(dict.fromkeys("".join(map(origins, texts_in(sources)))))
    if not found or found == OURS:
        return Traced(text, OURS)
    return Traced(text, UNKNOWN if OURS in found or UNKNOWN in found else found[0])


def texts_in(value: Any) -> Iterator[str]:
    """All texts in a value that JSON could have, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_in(key)
            yield from texts_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_in(item)


def percent(text: str, values: Any) -> Traced:
    """What `text % values` says. ValueError for a width of more than three digits or one that is a value."""
    if str.count(text, "%") != sum(2 if spec.endswith("%") else 1 for spec in _PERCENT.findall(text)):
        raise ValueError("expected % with plain formats such as %s and %5.2f, found others")
    plain = str.__mod__(str.__getitem__(text, slice(None)), values)
    given = values if isinstance(values, tuple) else (values,)
    pieces = re.split("%s", text)
    if "%" in "".join(pieces) or len(pieces) != len(given) + 1 or isinstance(values, Mapping):
        return settled(plain, (text, values))
    parts: list[str] = []
    end = 0
    for piece, value in zip(pieces, (*given, ""), strict=True):
        said = value if isinstance(value, str) else settled(str(value), (value,))
        parts += [Traced(piece, origins(text)[end : end + len(piece)] or UNKNOWN), said]
        end += len(piece) + 2
    return joined(parts)
