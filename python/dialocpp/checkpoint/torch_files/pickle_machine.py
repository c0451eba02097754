"""What value does a pickle describe, when nothing in it may act?

An interpreter for the instructions that state dicts are written with. It builds None, bools, numbers,
strings, tuples, lists and dicts; what a global, a call or a persistent id stands for is decided by the
caller's `Objects`. Nothing is ever imported or looked up by a name in the file, and what an instruction may
take is bounded before it is taken. Values of a pickle can be nested and shared without end: none is hashed,
compared or printed but strings and numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Protocol

from dialocpp.errors import brief

# A GPT-2 of 500 layers stays below these; the next size up is not a checkpoint but an attack or damage.
MAX_BYTES = 4 << 20
MAX_INSTRUCTIONS = 400_000
MAX_MARKS = 32
MAX_STRING = 4096
MAX_INT_BYTES = 16
_MAX_LINE = 256


class DamagedError(Exception):
    """What was found instead of a checkpoint, as the part of a sentence."""


class Objects(Protocol):
    """What the machine leaves to others. Each raises DamagedError for what it refuses."""

    def named(self, module: str, name: str) -> object:
        """What stands for a global; never the thing itself."""

    def called(self, function: object, arguments: tuple[Any, ...]) -> object:
        """The value of a call of what `named` gave."""

    def persistent(self, identity: object) -> object:
        """The value that stands outside of the pickle."""


class PickleMachine:
    """Reads the pickle at the start of the data; `position` is then the first byte after it.

    Of the data no more than MAX_BYTES are looked at, so no more than MAX_BYTES + 1 need be given.
    """

    def __init__(self, data: bytes, objects: Objects) -> None:
        self._data = data
        self._limit = min(len(data), MAX_BYTES)
        self._is_cut = self._limit < len(data)
        self._objects = objects
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self.position = 0

    def run(self) -> Any:
        """The pickled value; DamagedError for whatever a state dict does not need."""
        for _ in range(MAX_INSTRUCTIONS):
            code = self._take(1)[0]
            if code == _STOP:
                if len(self._stack) != 1 or self._marks:
                    raise DamagedError("a pickle that ends in the middle of a value")
                return self._stack[0]
            action = _ACTIONS.get(code)
            if action is None:
                raise DamagedError(f"the pickle instruction {code:#04x}, which no checkpoint needs")
            action(self)
        raise DamagedError(f"a pickle of more than {MAX_INSTRUCTIONS} instructions")

    # Bytes

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if end > self._limit:
            raise DamagedError(f"a pickle of more than {MAX_BYTES} bytes" if self._is_cut else "a file cut short")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _line(self) -> str:
        head = self._data[self.position : min(self._limit, self.position + _MAX_LINE)]
        line, newline, _ = head.partition(b"\n")
        if not newline:
            raise DamagedError("a global without an end to its name")
        self.position += len(line) + 1
        return _text(line)

    # The stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise DamagedError("a pickle that takes what it has not put down")
        return self._stack.pop()

    def _pop_many(self, count: int) -> tuple[Any, ...]:
        return tuple(self._pop() for _ in range(count))[::-1]

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise DamagedError("a pickle that takes what it has not put down")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    # Instructions

    def _protocol(self) -> None:
        if not 2 <= self._number(1) <= 5:
            raise DamagedError("a pickle of an unknown protocol")

    def _frame(self) -> None:
        # How much a reader of a stream would fetch at once: never more than there is.
        if self._number(8) > self._limit - self.position:
            raise DamagedError("a pickle with a frame that is longer than itself")

    def _mark(self) -> None:
        if len(self._marks) >= MAX_MARKS:
            raise DamagedError(f"a pickle nested more than {MAX_MARKS} deep")
        self._marks.append(len(self._stack))

    def _string(self, length_size: int) -> None:
        length = self._number(length_size)
        if length > MAX_STRING:
            raise DamagedError(f"a pickled text of {length} bytes")
        self._push(_text(self._take(length)))

    def _long(self, length_size: int) -> None:
        length = self._number(length_size)
        if length > MAX_INT_BYTES:
            raise DamagedError(f"a pickled number of {length} bytes")
        self._push(int.from_bytes(self._take(length), "little", signed=True))

    def _store(self, index: int) -> None:
        value = self._pop()
        self._push(value)
        self._memo[index] = value

    def _recall(self, size: int) -> None:
        index = self._number(size)
        if index not in self._memo:
            raise DamagedError("a pickle that recalls what it has not stored")
        self._push(self._memo[index])

    def _global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise DamagedError("a global whose name is no text")
        self._push(self._objects.named(module, name))

    def _stack_global(self) -> None:
        module, name = self._pop_many(2)
        self._global(module, name)

    def _reduce(self) -> None:
        function, arguments = self._pop_many(2)
        if type(arguments) is not tuple:
            raise DamagedError("a call without arguments")
        self._push(self._objects.called(function, arguments))

    def _build(self) -> None:
        """An OrderedDict's attributes (torch's `_metadata`) are of no use here; nothing else may have any."""
        target, state = self._pop_many(2)
        if type(target) is not dict or type(state) is not dict:
            raise DamagedError("an object with a state of its own")
        self._push(target)

    def _set_items(self, items: list[Any]) -> None:
        target = self._pop()
        if type(target) is not dict or len(items) % 2:
            raise DamagedError("items for what is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):  # optimizers number their parameters
                raise DamagedError("a dict whose keys are neither texts nor numbers")
            if key in target:
                raise DamagedError(f"the name {brief(key)} twice")
            target[key] = value
        self._push(target)

    def _extend(self, items: list[Any]) -> None:
        target = self._pop()
        if type(target) is not list:
            raise DamagedError("items for what is not a list")
        target.extend(items)
        self._push(target)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise DamagedError("a pickled text that is not UTF-8") from None


_STOP = ord(".")
Machine = PickleMachine
_ACTIONS: dict[int, Callable[[PickleMachine], None]] = {
    0x80: Machine._protocol,
    0x95: Machine._frame,
    ord("("): Machine._mark,
    # constants
    ord("N"): lambda m: m._push(None),
    0x88: lambda m: m._push(True),
    0x89: lambda m: m._push(False),
    # numbers
    ord("K"): lambda m: m._push(m._number(1)),
    ord("M"): lambda m: m._push(m._number(2)),
    ord("J"): lambda m: m._push(struct.unpack("<i", m._take(4))[0]),
    ord("G"): lambda m: m._push(struct.unpack(">d", m._take(8))[0]),
    0x8A: lambda m: m._long(1),
    0x8B: lambda m: m._long(4),
    # texts
    ord("X"): lambda m: m._string(4),
    0x8C: lambda m: m._string(1),
    0x8D: lambda m: m._string(8),
    # containers
    ord("}"): lambda m: m._push({}),
    ord("]"): lambda m: m._push([]),
    ord(")"): lambda m: m._push(()),
    ord("t"): lambda m: m._push(tuple(m._pop_to_mark())),
    0x85: lambda m: m._push(m._pop_many(1)),
    0x86: lambda m: m._push(m._pop_many(2)),
    0x87: lambda m: m._push(m._pop_many(3)),
    ord("s"): lambda m: m._set_items(list(m._pop_many(2))),
    ord("u"): lambda m: m._set_items(m._pop_to_mark()),
    ord("a"): lambda m: m._extend(list(m._pop_many(1))),
    ord("e"): lambda m: m._extend(m._pop_to_mark()),
    # the memo
    ord("q"): lambda m: m._store(m._number(1)),
    ord("r"): lambda m: m._store(m._number(4)),
    0x94: lambda m: m._store(len(m._memo)),
    ord("h"): lambda m: m._recall(1),
    ord("j"): lambda m: m._recall(4),
    # what the caller decides
    ord("c"): lambda m: m._global(m._line(), m._line()),
    0x93: Machine._stack_global,
    ord("R"): Machine._reduce,
    ord("b"): Machine._build,
    ord("Q"): lambda m: m._push(m._objects.persistent(m._pop())),
}
