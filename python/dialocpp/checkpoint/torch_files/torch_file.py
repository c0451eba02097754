"""Which tensors lie in a torch file? Both of torch's containers, without torch; nothing in them is run.

The older container is a row of pickles (a magic number, a version, facts about the machine, the tensors'
descriptions, the storages' keys) and then the storages, each with its length before it. The newer one is a
zip file with the descriptions in `data.pkl` and one member for each storage.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dialocpp.checkpoint.element_types import ITEM_BYTES
from dialocpp.checkpoint.stored_tensor import StoredTensor
from dialocpp.checkpoint.weight_file import WeightFile
from dialocpp.errors import CheckpointError, brief

from .pickle_machine import MAX_BYTES, DamagedError, PickleMachine
from .state_dict import state_dict_in
from .torch_objects import Storage, TensorView, TorchObjects
from .zip_members import Member, zip_members

_ZIP = b"PK\x03\x04"
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_CHUNK = 1 << 20
_ADVICE = "download it again, or choose another model"


@dataclass
class _Checked:
    """The bytes of a storage, compared with the checksum beside them before they are used for the first time."""

    file: WeightFile
    member: Member
    sound: bool = field(default=False)

    def __call__(self) -> None:
        """CheckpointError if they are not those that were written."""
        if self.sound or not self.member.crc:  # torch can be told to write none; it writes 0 then
            return
        crc = 0
        for at in range(self.member.begin, self.member.end, _CHUNK):
            crc = zlib.crc32(self.file[at : min(at + _CHUNK, self.member.end)], crc)
        if crc != self.member.crc:
            raise CheckpointError(
                f"expected numbers with the CRC-32 {self.member.crc:08x} in {self.file.path}, found {crc:08x}; "
                f"{_ADVICE}"
            )
        self.sound = True


@dataclass(frozen=True)
class _Place:
    """Where a storage begins in the file, and what is to be called before its numbers are used."""

    begin: int
    check: Callable[[], None] | None = None


def torch_tensors(path: Path) -> dict[str, StoredTensor]:
    """Name -> tensor. CheckpointError for a file that is damaged, cut short, or wants to do something."""
    try:
        file = WeightFile(path)
        views, places = _zipped(file) if file[:4] == _ZIP else _legacy(file)
        return {name: _stored(file, view, places[view.storage.key]) for name, view in views.items()}
    except DamagedError as error:
        found = "a git-lfs pointer to it" if file.is_lfs_pointer() else str(error)
    except OSError as error:
        found = f"one that cannot be read ({error.strerror})"
    raise CheckpointError(f"expected weights that torch.save wrote in {path}, found {found}; {_ADVICE}")


def _zipped(file: WeightFile) -> tuple[dict[str, TensorView], dict[str, _Place]]:
    """The tensors' descriptions, and where each storage lies."""
    members = zip_members(file)
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise DamagedError("a zip file that is not torch's")
    root = roots[0]
    order = members.get(f"{root}byteorder")
    if order and file[order.begin : min(order.end, order.begin + 16)] != b"little":
        raise DamagedError("numbers of a big-endian machine")
    views = state_dict_in(PickleMachine(_pickled(file, members[f"{root}data.pkl"]), TorchObjects()).run())
    places = {}
    for storage in {view.storage.key: view.storage for view in views.values()}.values():
        member = members.get(f"{root}data/{storage.key}")
        if member is None:
            raise DamagedError(f"no storage {brief(storage.key)}")
        if member.end - member.begin != storage.numel * ITEM_BYTES[storage.dtype]:
            raise DamagedError(
                f"a storage of {member.end - member.begin} bytes instead of {storage.numel} {storage.dtype}"
            )
        places[storage.key] = _Place(member.begin, _Checked(file, member))
    return views, places


def _pickled(file: WeightFile, member: Member) -> bytes:
    """The descriptions, as far as a reader of pickles looks."""
    data = file[member.begin : min(member.end, member.begin + MAX_BYTES + 1)]
    if len(data) <= MAX_BYTES and member.crc not in (0, zlib.crc32(data)):
        raise DamagedError(f"a pickle whose CRC-32 is {zlib.crc32(data):08x} instead of {member.crc:08x}")
    return data


def _legacy(file: WeightFile) -> tuple[dict[str, TensorView], dict[str, _Place]]:
    """The same for the older container."""
    at = 0

    def value(objects: TorchObjects) -> Any:
        nonlocal at
        machine = PickleMachine(file[at : at + MAX_BYTES + 1], objects)
        result = machine.run()
        at += machine.position
        return result

    magic = value(TorchObjects())
    if type(magic) is not int or magic != _MAGIC:
        raise DamagedError("a pickle that is not torch's")
    version, system = value(TorchObjects()), value(TorchObjects())
    if type(version) is not int or version != _VERSION:
        raise DamagedError("an unknown version of the format")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise DamagedError("numbers of a big-endian machine")
    objects = TorchObjects()
    views, keys = state_dict_in(value(objects)), value(TorchObjects())
    if type(keys) is not list or any(type(key) is not str for key in keys) or len(set(keys)) != len(keys):
        raise DamagedError("an unknown list of storages")
    if set(keys) != set(objects.storages):
        raise DamagedError("storages other than those that the tensors need")
    return views, _places(file, at, [objects.storages[key] for key in keys])


def _places(file: WeightFile, at: int, storages: Iterable[Storage]) -> dict[str, _Place]:
    """Each storage follows its number of elements, an int64."""
    places = {}
    for storage in storages:
        begin = at + 8
        if int.from_bytes(file[at:begin], "little", signed=True) != storage.numel:
            raise DamagedError(f"a storage that is not of the {storage.numel} elements that it should have")
        at = begin + storage.numel * ITEM_BYTES[storage.dtype]
        if at > len(file):
            raise DamagedError("a file cut short")
        places[storage.key] = _Place(begin)
    return places


def _stored(file: WeightFile, view: TensorView, place: _Place) -> StoredTensor:
    """The tensor; `TensorView` has been found to lie inside of its storage."""
    dtype = view.storage.dtype
    begin = place.begin + view.offset * ITEM_BYTES[dtype]
    checks: Mapping[str, Any] = {} if place.check is None else {"check": place.check}
    return StoredTensor(dtype, view.shape, file, begin, _strides(view), **checks)


def _strides(view: TensorView) -> tuple[int, ...] | None:
    """None where the elements lie one after the other, as nearly always."""
    # The stride of a dimension of one element is never walked, and may be anything.
    strides = tuple(step if size > 1 else 0 for size, step in zip(view.shape, view.strides, strict=True))
    plain, step = [], 1
    for size in reversed(view.shape):
        plain.append(step if size > 1 else 0)
        step *= size
    return None if strides == tuple(reversed(plain)) else strides
