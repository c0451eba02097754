"""Where in a zip file do its members lie? Torch stores them as they are, so each is a range of the file.

Read by hand, because what lies in the file is never to be unpacked: a member that is compressed, encrypted,
outside of the file or on another disk is refused, and a name is never more than a key.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dialocpp.checkpoint.weight_file import WeightFile

from .pickle_machine import DamagedError

MAX_MEMBERS = 20_000
_MAX_NAME = 1024

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END64, _LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"
_END_SIZE, _LOCATOR_SIZE, _COMMENT = 22, 20, 0xFFFF
_ELSEWHERE = 0xFFFFFFFF  # the real number stands in the zip64 field
_ENCRYPTED = 1


class Member(NamedTuple):
    """Where a member's bytes lie, and their CRC-32."""

    begin: int
    end: int
    crc: int


def zip_members(data: WeightFile) -> dict[str, Member]:
    """Name -> where its bytes are; DamagedError if it is no sound zip of such."""
    position, count, limit = _directory(data)
    if count > MAX_MEMBERS:
        raise DamagedError(f"a zip file of {count} members")
    members: dict[str, Member] = {}
    for _ in range(count):
        name, found, position = _member(data, position, limit)
        if name in members:
            raise DamagedError(f"the zip member {name[:80]!r} twice")
        members[name] = found
    return members


def _unpack(layout: str, data: WeightFile, at: int) -> tuple[int, ...]:
    if at < 0 or at + struct.calcsize(layout) > len(data):
        raise DamagedError("a zip file cut short")
    return struct.unpack(layout, data[at : at + struct.calcsize(layout)])


def _bytes(data: WeightFile, at: int, count: int) -> bytes:
    if at < 0 or at + count > len(data):
        raise DamagedError("a zip file cut short")
    return data[at : at + count]


def _directory(data: WeightFile) -> tuple[int, int, int]:
    """Where the central directory begins, how many members it has, and where it ends at the latest."""
    tail = max(0, len(data) - _END_SIZE - _COMMENT)
    found = data[tail:].rfind(_END)
    if found < 0:
        raise DamagedError("a zip file cut short")
    end = tail + found
    disk, first_disk, here, count, _, start = _unpack("<4x4H2I2x", data, end)
    if end >= _LOCATOR_SIZE and _bytes(data, end - _LOCATOR_SIZE, 4) == _LOCATOR64:
        (at,) = _unpack("<8xQ4x", data, end - _LOCATOR_SIZE)
        if _bytes(data, at, 4) != _END64:
            raise DamagedError("a zip file whose end is damaged")
        disk, first_disk, here, count, _, start = _unpack("<16x2I4Q", data, at)
        end = at
    if disk or first_disk or here != count:
        raise DamagedError("a part of a split zip file")
    return start, count, end


def _member(data: WeightFile, at: int, limit: int) -> tuple[str, Member, int]:
    """Name, place, and where the next entry of the central directory begins."""
    signature, flags, method, crc, stored, size, name_len, extra_len, comment_len, header = _unpack(
        "<I4xHH4xIIIHHH8xI", data, at
    )
    following = at + 46 + name_len + extra_len + comment_len
    if signature.to_bytes(4, "little") != _CENTRAL or following > limit or name_len > _MAX_NAME:
        raise DamagedError("a zip file whose directory is damaged")
    try:
        name = _bytes(data, at + 46, name_len).decode()
    except UnicodeDecodeError:
        raise DamagedError("a zip member whose name is not UTF-8") from None
    size, stored, header = _wide((size, stored, header), _bytes(data, at + 46 + name_len, extra_len))
    if method or flags & _ENCRYPTED or stored != size:
        raise DamagedError(f"the zip member {name[:80]!r} compressed or encrypted")
    begin = _data_begin(data, header, name)
    if begin + size > limit:
        raise DamagedError(f"the zip member {name[:80]!r} outside of the file")
    return name, Member(begin, begin + size, crc), following


def _wide(values: tuple[int, int, int], extra: bytes) -> tuple[int, ...]:
    """Size, stored size and offset, with those that did not fit into 32 bits taken from the zip64 field."""
    at, field = 0, b""
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
        at += 4 + length
    wide = []
    for value in values:
        if value == _ELSEWHERE:
            if len(field) < 8:
                raise DamagedError("a zip member without its size")
            value, field = int.from_bytes(field[:8], "little"), field[8:]
        wide.append(value)
    return tuple(wide)


def _data_begin(data: WeightFile, header: int, name: str) -> int:
    """A member's data follows its own header, whose name must be that of the directory."""
    signature, name_len, extra_len = _unpack("<I22xHH", data, header)
    if signature.to_bytes(4, "little") != _LOCAL or _bytes(data, header + 30, name_len) != name.encode():
        raise DamagedError(f"the zip member {name[:80]!r} where it is not")
    return header + 30 + name_len + extra_len
