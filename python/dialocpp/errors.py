"""Which errors can dialocpp raise? A bad argument is a ValueError or TypeError; all else is one of these."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class DialocppError(Exception):
    """Base of every error that is not about an argument."""


class CheckpointError(DialocppError):
    """A model's files are missing, damaged, unreachable, or not those of a GPT-2 that dialocpp can run."""


class CheckpointWarning(UserWarning):
    """A model runs, but not all that its files hold is used; the message names what is not."""


class CacheWarning(UserWarning):
    """A model runs, but its quantised copy cannot be kept, so the next load will take as long as this one."""


class VocabularyWarning(UserWarning):
    """A model runs, but its tokenizer has tokens that it does not know; text is encoded without them."""


class CapacityError(DialocppError):
    """A sequence would outgrow the model's positions, or the KV cache is full. Raised by the core."""


class BackendError(DialocppError):
    """This machine cannot do what was asked for, such as an instruction set that it lacks. From the core."""


class ReplyCancelledError(DialocppError):
    """A reply was cancelled before any of it was shown, so nothing was said."""


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_LONGEST = 200


def brief(value: object) -> str:
    """A value as an error shows it: its repr, cut to a length that one can read, whatever its size."""
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


class HookTraceback(Exception):  # noqa: N818 (it is shown as the cause of an error, and never raised)
    """Where in a caller's own function an error was raised, as text: frames would hold what they worked on."""

    def __str__(self) -> str:
        return f"\n{self.args[0].rstrip()}"


def ask(name: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """What a caller's own function returns. Its StopIteration would pass for the end of a loop of ours."""
    try:
        return function(*arguments)
    except StopIteration as error:
        raise RuntimeError(
            f"expected {name} to return something, found that it raised StopIteration; give next() a default in it"
        ) from error
