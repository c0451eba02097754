"""Which arrays lie in a torch file? Both of torch's containers, mapped; nothing is copied and nothing is run.

The older container is a row of pickles (a magic number, a version, facts about the machine, the tensors'
descriptions, the storages' keys) and then the storages, each with its length before it. The newer one is a
zip file with the descriptions in `data.pkl` and one member for each storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dialocpp.checkpoint.mapped import ITEM_BYTES, NUMPY, StoredTensor, map_bytes, pointer_to_lfs
from dialocpp.errors import CheckpointError

from .pickle_machine import DamagedError, PickleMachine
from .torch_objects import Storage, TensorView, TorchObjects
from .zip_members import Range, zip_members

_ZIP = b"PK\x03\x04"
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


def map_torch(path: Path) -> dict[str, StoredTensor]:
    """Name -> tensor. CheckpointError for a file that is damaged, cut short, or wants to do something."""
    try:
        raw = map_bytes(path)
        data = raw.data
        views, ranges = _zipped(data) if bytes(data[:4]) == _ZIP else _legacy(data)
        return {name: _stored(raw, view, ranges) for name, view in views.items()}
    except DamagedError as error:
        found = "a git-lfs pointer to it" if pointer_to_lfs(path) else str(error)
    except OSError as error:
        found = f"one that cannot be read ({error.strerror})"
    raise CheckpointError(
        f"expected weights that torch.save wrote in {path}, found {found}; download it again, or choose another model"
    )


def _zipped(data: memoryview) -> tuple[dict[str, TensorView], dict[str, Range]]:
    """The tensors' descriptions, and where each storage lies."""
    members = zip_members(data)
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise DamagedError("a zip file that is not torch's")
    root = roots[0]
    begin, end = members.get(f"{root}byteorder", (0, 0))
    if bytes(data[begin : min(end, begin + 16)]) not in (b"", b"little"):
        raise DamagedError("numbers of a big-endian machine")
    begin, end = members[f"{root}data.pkl"]
    views = _views(PickleMachine(data[begin:end], 0, TorchObjects()).run())
    ranges = {}
    for storage in _storages(views).values():
        name = f"{root}data/{storage.key}"
        if name not in members:
            raise DamagedError(f"no storage {storage.key[:80]!r}")
        begin, end = members[name]
        if end - begin != storage.numel * ITEM_BYTES[storage.dtype]:
            raise DamagedError(f"a storage of {end - begin} bytes instead of {storage.numel} {storage.dtype}")
        ranges[storage.key] = begin, end
    return views, ranges


def _legacy(data: memoryview) -> tuple[dict[str, TensorView], dict[str, Range]]:
    """The same for the older container."""
    at = 0

    def value() -> Any:
        nonlocal at
        machine = PickleMachine(data, at, TorchObjects())
        result = machine.run()
        at = machine.position
        return result

    magic = value()
    if type(magic) is not int or magic != _MAGIC:
        raise DamagedError("a pickle that is not torch's")
    version, system = value(), value()
    if type(version) is not int or version != _VERSION:
        raise DamagedError("an unknown version of the format")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise DamagedError("numbers of a big-endian machine")
    views, keys = _views(value()), value()
    storages = _storages(views)
    if type(keys) is not list or any(type(key) is not str for key in keys) or len(set(keys)) != len(keys):
        raise DamagedError("an unknown list of storages")
    if set(keys) != set(storages):
        raise DamagedError("storages other than those that the tensors need")
    return views, _storage_ranges(data, at, [storages[key] for key in keys])


def _storage_ranges(data: memoryview, at: int, storages: list[Storage]) -> dict[str, Range]:
    """Each storage follows its number of elements, an int64."""
    ranges = {}
    for storage in storages:
        begin = at + 8
        if int.from_bytes(data[at:begin], "little", signed=True) != storage.numel:
            raise DamagedError(f"a storage that is not of the {storage.numel} elements that it should have")
        at = begin + storage.numel * ITEM_BYTES[storage.dtype]
        if at > len(data):
            raise DamagedError("a file cut short")
        ranges[storage.key] = begin, at
    return ranges


def _views(value: Any) -> dict[str, TensorView]:
    if type(value) is not dict or not value:
        raise DamagedError("a pickle that is not a dict of tensors")
    for name, view in value.items():
        if type(view) is not TensorView:
            raise DamagedError(f"{type(view).__name__} instead of a tensor under {name[:80]!r}")
    return value


def _storages(views: Mapping[str, TensorView]) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}
    for view in views.values():
        if storages.setdefault(view.storage.key, view.storage) != view.storage:
            raise DamagedError(f"two descriptions of the storage {view.storage.key[:80]!r}")
    return storages


def _stored(raw: npt.NDArray[np.uint8], view: TensorView, ranges: Mapping[str, Range]) -> StoredTensor:
    """A view of the mapping; `TensorView` has been found to lie inside of its storage."""
    begin, end = ranges[view.storage.key]
    dtype = view.storage.dtype
    item = ITEM_BYTES[dtype]
    # The stride of a dimension of one element is never walked, and may be anything.
    strides = tuple(step * item if size > 1 else 0 for size, step in zip(view.shape, view.strides, strict=True))
    array: npt.NDArray[Any] = np.ndarray(view.shape, NUMPY[dtype], raw[begin:end], view.offset * item, strides)
    return StoredTensor(dtype, view.shape, array)
