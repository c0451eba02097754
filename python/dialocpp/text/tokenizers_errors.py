"""Which errors does the tokenizers package raise, and how do they reach a caller as errors that a program can catch?

Its code is Rust. What goes wrong there arrives as a bare `Exception`, or, where the Rust code panicked, as a
`PanicException`, which is no `Exception` at all: a caller's `except Exception` would not see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LONGEST = 200  # characters of the package's own words


def guarded(error_type: type[Exception], expected: str, advice: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns. What it raises, but for interrupts, comes as "expected ..., found ...; ..."."""
    try:
        return call(*arguments)
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise error_type(f"expected {expected}, found {reason_of(error)}; {advice}") from error


def is_panic(error: BaseException) -> bool:
    """Is this what a panic of Rust code becomes? The class cannot be imported: it is made on first use."""
    return type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime"


def reason_of(error: BaseException) -> str:
    """The error's own words in one line, cut to a length that one can read."""
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
