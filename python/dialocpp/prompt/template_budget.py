"""How much may a chat template do? Steps, sizes and processor time of one prompt, all bounded.

A template comes with a model and is a program: it may count to a million in a million loops, or ask for a text of a
terabyte. Steps are counted where the program repeats or calls, sizes are known before anything of that size is made,
and the clock of this thread's own processor time is there for what no count foresees.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

SOURCE_CHARACTERS = 1 << 16  # of a template
VALUE_CHARACTERS = 1 << 20  # of any text that it makes, its prompt too
INTEGER_BITS = 1 << 12
STEPS = 200_000  # for one prompt
SECONDS = 0.7  # of processor time for one prompt
_WORK = 1 << 24  # of one call: the product of what it is given
_STEP_WORK = 64  # characters or numbers that are handled in the time of a step
_LOOK_EVERY = 256
_SIZED = (str, bytes, list, tuple, dict, set, range)


class TooMuchError(Exception):
    """A template asked for more than it may have."""


class Budget:
    """What is left for one prompt."""

    def __init__(self) -> None:
        self._steps = STEPS
        self._next_look = STEPS - _LOOK_EVERY
        self._deadline = time.thread_time() + SECONDS

    def spend(self, steps: int = 1) -> None:
        """TooMuchError when nothing is left."""
        self._steps -= steps
        if self._steps < 0:
            raise TooMuchError(f"it takes more than {STEPS} steps")
        if self._steps < self._next_look:
            self._next_look = self._steps - _LOOK_EVERY
            if time.thread_time() > self._deadline:
                raise TooMuchError(f"it takes more than {SECONDS} s")


_current: ContextVar[Budget] = ContextVar("budget")


def begin() -> None:
    """A new budget for what this thread does next."""
    _current.set(Budget())


def spend(steps: int = 1) -> None:
    """Count steps of the program."""
    _current.get().spend(steps)


def weighed(value: Any) -> Any:
    """The value, after its size has been counted: a list that holds itself a million times weighs that much."""
    _weigh(value)
    return value


def _weigh(value: Any) -> None:
    spend()
    if isinstance(value, (str, range)):
        check_size(len(value))
        spend(len(value) // _STEP_WORK)
    elif isinstance(value, int):
        check_bits(value.bit_length())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _weigh(key)
            _weigh(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _weigh(item)


def check_call(arguments: Iterable[Any]) -> None:
    """TooMuchError if a call could make something too large of these: a text, repeated, of parts, in columns, …"""
    work = 1
    for value in arguments:
        _weigh(value)
        if isinstance(value, _SIZED):
            work *= max(1, len(value))
        elif isinstance(value, int):
            work *= max(1, abs(value))
        if work > _WORK:
            raise TooMuchError("it makes a value too large")
    spend(work // _STEP_WORK)


def check_size(characters: int) -> None:
    """TooMuchError for a text or list of this size."""
    if characters > VALUE_CHARACTERS:
        raise TooMuchError(f"it makes a value of {characters:.3g} characters or items")


def check_bits(bits: int) -> None:
    """TooMuchError for an integer of this size."""
    if bits > INTEGER_BITS:
        raise TooMuchError(f"it makes a number of {bits:.3g} bits")
