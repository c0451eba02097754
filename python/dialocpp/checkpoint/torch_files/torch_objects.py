"""Which tensors does a torch pickle describe? Few globals mean something; others are refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from dialocpp.errors import brief

from .pickle_machine import DamagedError

# torch.<name> -> safetensors' name of the element type.
STORAGE_TYPES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "ByteStorage": "U8",
    "CharStorage": "I8",
    "ShortStorage": "I16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
}
MAX_DIMENSIONS = 8
_MAX_EXTENT = 1 << 48


@dataclass(frozen=True)
class Storage:
    """A run of elements somewhere in the file."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class TensorView:
    """A tensor as the pickle describes it: elements of a storage, found to lie inside of it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Global:
    name: str


_ORDERED_DICT = _Global("collections.OrderedDict")
_REBUILD_TENSOR = _Global("torch._utils._rebuild_tensor_v2")
# A parameter is its tensor: what a training does with it beside that does not matter.
_REBUILD_PARAMETER = _Global("torch._utils._rebuild_parameter")
_REBUILD_WITH_STATE = _Global("torch._utils._rebuild_parameter_with_state")
_PARAMETERS = {_REBUILD_PARAMETER: 3, _REBUILD_WITH_STATE: 4}  # -> how many arguments; the tensor is the first
_KNOWN = {known.name: known for known in (_ORDERED_DICT, _REBUILD_TENSOR, *_PARAMETERS)} | {
    f"torch.{name}": _Global(f"torch.{name}") for name in STORAGE_TYPES
}


class TorchObjects:
    """The only things that a pickle of ours can construct. `storages`: all that it names, by their keys."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}

    def named(self, module: str, name: str) -> object:
        """A known global's stand-in."""
        found = _KNOWN.get(f"{module}.{name}")
        # "torch" + "FloatStorage" only: no second way to split a known name into a module and an attribute.
        if found is None or "." in name:
            raise DamagedError(f"the global {f'{module}.{name}'[:200]!r}, which a checkpoint of weights has no use for")
        return found

    def called(self, function: object, arguments: tuple[Any, ...]) -> object:
        """An empty dict, or a tensor inside its storage."""
        if function is _ORDERED_DICT and not arguments:
            return {}
        if function is _REBUILD_TENSOR:
            return _tensor(arguments)
        if type(function) is _Global and len(arguments) == _PARAMETERS.get(function):
            if type(arguments[0]) is not TensorView:
                raise DamagedError("a parameter that is described in an unknown way")
            return arguments[0]
        raise DamagedError("a call of something that is not to be called")

    def persistent(self, identity: object) -> object:
        """('storage', type, key, location, elements), and in old files a sixth, the view, which is None."""
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[5:] not in ((), (None,)):
            raise DamagedError("a storage that is described in an unknown way")
        kind, storage_type, key, _, numel = identity[:5]
        if type(kind) is not str or kind != "storage" or type(storage_type) is not _Global or type(key) is not str:
            raise DamagedError("a storage that is described in an unknown way")
        dtype = STORAGE_TYPES.get(storage_type.name.removeprefix("torch."))
        if dtype is None:
            raise DamagedError(f"a storage of type {storage_type.name}")
        storage = Storage(key, dtype, _extent(numel))
        if self.storages.setdefault(key, storage) != storage:
            raise DamagedError(f"two descriptions of the storage {brief(key)}")
        return storage


def _tensor(arguments: tuple[Any, ...]) -> TensorView:
    """Storage, offset, size, stride, requires_grad, backward hooks and, when something is set, metadata."""
    if len(arguments) not in (6, 7):
        raise DamagedError("a tensor that is described in an unknown way")
    storage, offset, shape, strides = arguments[:4]
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise DamagedError("a tensor that is described in an unknown way")
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise DamagedError("a tensor whose size and stride do not fit together")
    if len(arguments) == 7 and (type(arguments[6]) is not dict or arguments[6]):
        raise DamagedError("a tensor that is to be conjugated or negated")
    first, sizes, steps = _extent(offset), tuple(map(_extent, shape)), tuple(map(_extent, strides))
    elements = prod(sizes)
    last = first + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True)) if elements else first - 1
    # No more elements than the storage has: a stride of 0 could make a tensor of any size out of one.
    if elements > storage.numel or last >= storage.numel or first > storage.numel:
        raise DamagedError(f"a tensor of {elements} elements outside of its storage of {storage.numel}")
    return TensorView(storage, first, sizes, steps)


def _extent(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_EXTENT:
        raise DamagedError("a size or an offset that no tensor can have")
    return value
