"""How do tests make torch files, right and wrong ones, without torch? Instruction by instruction."""

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "int64": "LongStorage",
}
PROTO, STOP, MARK, TUPLE, REDUCE, SETITEMS = b"\x80\x02", b".", b"(", b"t", b"R", b"u"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if 0 <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def tuple_of(*items: bytes) -> bytes:
    return MARK + b"".join(items) + TUPLE


def ordered_dict() -> bytes:
    return name("collections", "OrderedDict") + b")" + REDUCE


def storage(key: str, kind: str, numel: int, *rest: bytes) -> bytes:
    return tuple_of(text("storage"), name("torch", kind), text(key), text("cpu"), number(numel), *rest) + b"Q"


def tensor(where: bytes, offset: int, shape: Iterable[int], strides: Iterable[int], *rest: bytes) -> bytes:
    sizes, steps = tuple_of(*map(number, shape)), tuple_of(*map(number, strides))
    arguments = tuple_of(where, number(offset), sizes, steps, b"\x89", ordered_dict(), *rest)
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + REDUCE


def state_dict(items: Mapping[str, bytes]) -> bytes:
    """A whole pickle of an OrderedDict of what is given as instructions."""
    pairs = b"".join(text(key) + value for key, value in items.items())
    return PROTO + ordered_dict() + MARK + pairs + SETITEMS + STOP


def described(arrays: Arrays) -> dict[str, bytes]:
    """Each array as a tensor of a storage of its own, named by its number."""
    return {
        key: tensor(
            storage(str(i), STORAGES[array.dtype.name], array.size),
            0,
            array.shape,
            [step // array.itemsize for step in array.strides],
        )
        for i, (key, array) in enumerate(arrays.items())
    }


def legacy_of(pickle: bytes, storages: Mapping[str, tuple[int, bytes]]) -> bytes:
    """The older container around a pickle; storages are their number of elements and their bytes."""
    system = PROTO + b"}" + MARK + text("little_endian") + b"\x88" + SETITEMS + STOP
    keys = PROTO + b"]" + MARK + b"".join(map(text, storages)) + b"e" + STOP
    head = PROTO + number(0x1950A86A20F9469CFC6C) + STOP + PROTO + number(1001) + STOP + system
    data = b"".join(struct.pack("<q", count) + content for count, content in storages.values())
    return head + pickle + keys + data


def zip_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return file.getvalue()


def legacy(arrays: Arrays) -> bytes:
    storages = {str(i): (array.size, array.tobytes()) for i, array in enumerate(arrays.values())}
    return legacy_of(state_dict(described(arrays)), storages)


def zipped(arrays: Arrays) -> bytes:
    members = {"m/data.pkl": state_dict(described(arrays)), "m/byteorder": b"little", "m/version": b"3\n"}
    return zip_of(members | {f"m/data/{i}": array.tobytes() for i, array in enumerate(arrays.values())})


CONTAINERS = {"legacy": legacy, "zip": zipped}
