"""What does a test need that interrupts a call anywhere? Moments are counted in bytecodes, so that a seed names them.

`strike` is called in front of the n-th bytecode that the package runs in this thread. What it raises, or what a
signal's handler raises in it, strikes there.
"""

import ctypes
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import dialocpp
from dialocpp import ChatSession, Model

PACKAGE = str(Path(dialocpp.__file__).parent)
LINE, NEXT = "Hello, how are you?", "What do you like to eat?"
SHORT = {"max_new_tokens": 8, "min_new_tokens": 4}


class Struck(BaseException):
    """What strikes."""


def by_signal(number: int) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


def by_injection() -> None:
    """As another thread would inject it: it strikes at the interpreter's next look."""
    ident = ctypes.c_ulong(threading.get_ident())
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Struck))


STRIKES: dict[str, Callable[[], None]] = {
    "SIGINT": by_signal(signal.SIGINT),
    "SIGTERM": by_signal(signal.SIGTERM),
    "injected": by_injection,
}


class Bytecodes:
    """Counts the package's bytecodes in this thread; strikes in front of number `at`."""

    def __init__(self, at: int | None = None, strike: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self._at, self._strike = at, strike

    def __enter__(self) -> "Bytecodes":
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.count += 1
            if self.count == self._at:
                sys.settrace(None)
                self._strike()
        return self._step


@contextmanager
def raising_handlers() -> Iterator[None]:
    """SIGINT and SIGTERM raise, as an application's handlers do."""

    def strike(number: int, frame: Any) -> None:
        raise Struck(number)

    before = {number: signal.signal(number, strike) for number in (signal.SIGINT, signal.SIGTERM)}
    # An exception that strikes in a finaliser is told and goes no further: that is Python's rule.
    hook, sys.unraisablehook = sys.unraisablehook, lambda told: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


Work = Callable[[Model, ChatSession], Any]


def _stream(model: Model, chat: ChatSession) -> str:
    return "".join(chat.stream(NEXT))


WORKS: dict[str, tuple[Work, dict[str, Any]]] = {
    "load": (lambda model, chat: Model.from_pretrained(model.folder, dtype=model.dtype, num_threads=1).name, {}),
    "reply": (lambda model, chat: chat.reply(NEXT).text, {}),
    "stream": (_stream, {}),
    "regenerate": (lambda model, chat: chat.regenerate().text, {}),
    "batch": (lambda model, chat: [str(each) for each in model.generate(["a", "bc", "d"], max_new_tokens=5)], {}),
    "beams": (lambda model, chat: chat.reply(NEXT).text, {"num_beams": 3, "do_sample": False}),
    "ranking": (lambda model, chat: chat.reply(NEXT).text, {"num_candidates": 3, "rankers": len}),
}


def session(model: Model, work: str) -> ChatSession:
    """One exchange old."""
    arguments = dict(WORKS[work][1])
    if "rankers" in arguments:
        arguments["rankers"] = lambda context, reply: float(len(reply))
    chat = ChatSession(model, seed=5, **SHORT, **arguments)
    chat.reply(LINE)
    return chat


def undisturbed(model: Model, work: str) -> tuple[Any, int]:
    """What the work gives, and its number of bytecodes."""
    chat = session(model, work)
    WORKS[work][0](model, chat)  # what is made once is made
    chat = session(model, work)
    with Bytecodes() as bytecodes:
        result = WORKS[work][0](model, chat)
    return result, bytecodes.count


def interrupted(model: Model, work: str, at: int, strike: Callable[[], None], expected: Any) -> str:
    """Strikes there and looks at everything after it; what became of the call. AssertionError for what is wrong."""
    gc.collect()
    gc.disable()  # what is freed is freed by its last reference
    try:
        return _interrupted(model, work, at, strike, expected)
    finally:
        gc.enable()


def _interrupted(model: Model, work: str, at: int, strike: Callable[[], None], expected: Any) -> str:
    run, _ = WORKS[work]
    used, files = model.kv_bytes_in_use, _open_files()
    chat = session(model, work)
    before = chat.history
    outcome = "whole"
    try:
        with Bytecodes(at, strike):
            assert run(model, chat) == expected
    except Struck:
        outcome = "struck"
    after = chat.history
    kept = before[:-2] if work == "regenerate" else before
    if after != before:
        assert after[: len(kept)] == kept and len(after) == len(kept) + 2, "half an exchange"
        assert work in ("reply", "stream", "regenerate", "beams", "ranking")
        said = after[-1]["content"]
        assert said and str(expected).startswith(said), "what was said is what was shown"
        outcome += ", kept"
    assert chat._occupancy.holder is None, "the session is not free"
    assert model.runtime.scheduler._live == {}, "a job is left"
    # The same call gives the same reply afterwards.
    if work == "regenerate":
        chat = session(model, work)
    elif after != before:
        chat.undo()
    assert run(model, chat) == expected, "another reply"
    del chat
    gc.collect()
    assert model.kv_bytes_in_use == used, "pages are left"
    assert _open_files() == files, "files are left open"
    return outcome


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0
