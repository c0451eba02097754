"""Whose is an exception that a job's own code raised, and how is it kept without what it worked on?

A step runs the code of all jobs: their callers' functions, and those of other packages. Whatever that raises, be it an
Exception or not, is the job's alone, and whoever waits for the job gets it. One kind strikes there by chance: what a
signal's handler raises, such as Ctrl-C. That belongs to the thread that it struck, and the step can be run again.
"""

from __future__ import annotations

import copy
import signal
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

from dialocpp.errors import HookTraceback, ask
from dialocpp.text.tokenizers_errors import is_panic

_PACKAGE = str(Path(__file__).parent.parent / "_")[:-1]


def is_interrupt(error: BaseException) -> bool:
    """Did it strike from outside: raised by a signal's handler, or injected into this thread?

    Python runs handlers in the main thread only. The usual one of Ctrl-C leaves no frame, so there a KeyboardInterrupt
    always counts as one, but not a subclass. The package's own code raises nothing but Exceptions.
    """
    if not isinstance(error, Exception) and not is_panic(error) and not _is_of_a_hook(error):
        return True
    if threading.current_thread() is not threading.main_thread():
        return False
    if type(error) is KeyboardInterrupt:
        return True
    handlers = {code for number in signal.valid_signals() if (code := _code_of(signal.getsignal(number)))}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


def kept(error: BaseException) -> BaseException:
    """The error as a job may keep it: without frames. If it came from a caller's own function, its cause tells where.

    It may be of any class, so what a class can override is not used.
    """
    trace = _beyond_the_package(error)
    if isinstance(error, StopIteration):  # it would pass for the end of a loop or of a stream
        error, cause = RuntimeError("expected a function that a step calls to return, found StopIteration"), error
        error.__cause__ = cause
    if trace is not None or error.__cause__ is not None:
        _set(error, "__cause__", HookTraceback(_text(error, trace)))
    _strip(error)
    return error


def bare(error: BaseException) -> BaseException:
    """A twin to be raised: the traceback that it gathers would hold the job and its pages."""
    with suppress(Exception):  # a caller's own exception may not be copyable
        twin = copy.copy(error)
        if type(twin) is type(error) and twin.args == error.args:
            _strip(twin)
            _set(twin, "__cause__", error.__cause__)
            return twin
    return error


def _is_of_a_hook(error: BaseException) -> bool:
    """Was it raised in a caller's own function, be that one without frames?"""
    codes = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    return _beyond_the_package(error) is not None or ask.__code__ in codes


def _beyond_the_package(error: BaseException) -> TracebackType | None:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return trace


def _strip(error: BaseException) -> None:
    BaseException.with_traceback(error, None)
    _set(error, "__context__", None)
    for part in getattr(error, "exceptions", ()):  # of an ExceptionGroup
        if isinstance(part, BaseException):
            _strip(part)


def _set(error: BaseException, name: str, value: BaseException | None) -> None:
    BaseException.__setattr__(error, name, value)  # an error may be a frozen dataclass


def _text(error: BaseException, trace: TracebackType | None) -> str:
    """The traceback; it asks the error for its text, which is a caller's own code too."""
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException as second:
        if is_interrupt(second):
            raise
        return f"{type(error).__name__}, which cannot be shown: it raised {type(second).__name__}"


def _code_of(handler: Any) -> CodeType | None:
    """Of a function, a method, a partial (asyncio's) or an object with __call__."""
    handler = getattr(handler, "func", handler)
    if callable(handler) and not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
        handler = type(handler).__call__
    code = getattr(getattr(handler, "__func__", handler), "__code__", None)
    return code if isinstance(code, CodeType) else None
