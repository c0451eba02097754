"""Is all that a hostile file can ask for refused by name, and not called, imported or allocated?"""

import builtins
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp.checkpoint.torch_files.pickle_machine import MAX_INSTRUCTIONS, MAX_MARKS
from dialocpp.checkpoint.torch_files.torch_file import torch_tensors
from dialocpp.errors import CheckpointError
from torch_files import (
    MARK,
    PROTO,
    REDUCE,
    SETITEMS,
    STOP,
    TUPLE,
    legacy_of,
    name,
    number,
    ordered_dict,
    state_dict,
    storage,
    tensor,
    text,
    tuple_of,
    zip_of,
)

ONE = np.ones(1, np.float32).tobytes()
GOOD = tensor(storage("0", "FloatStorage", 1), 0, [1], [1])
MEMORY = 40 << 20  # of which a refused file may take a part


def container_of(kind: str, pickled: bytes) -> bytes:
    """A file that is sound but for its pickle."""
    if kind == "legacy":
        return legacy_of(pickled, {"0": (1, ONE)})
    return zip_of({"m/data.pkl": pickled, "m/data/0": ONE})


@pytest.fixture(params=["legacy", "zip"])
def refused(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], str]:
    """Reads a pickle in a file: refused in one sentence, nothing imported, little memory taken."""

    def refuse(pickled: bytes) -> str:
        return assert_refused(tmp_path, container_of(request.param, pickled))

    def called(*_: object, **__: object) -> None:
        raise AssertionError("the file was obeyed")

    for module, attribute in ((os, "system"), (os, "popen"), (builtins, "eval"), (builtins, "exec")):
        monkeypatch.setattr(module, attribute, called)
    return refuse


def assert_refused(folder: Path, content: bytes) -> str:
    path = folder / "pytorch_model.bin"
    path.write_bytes(content)
    modules = set(sys.modules)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            torch_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert set(sys.modules) == modules
    message = str(caught.value)
    assert message.startswith(f"expected weights that torch.save wrote in {path}, found ")
    assert len(message) < 1000 and "\n" not in message
    return message


def test_the_container_itself_is_read(tmp_path: Path) -> None:
    for kind in ("legacy", "zip"):
        (tmp_path / kind).write_bytes(container_of(kind, state_dict({"w": GOOD})))
        assert torch_tensors(tmp_path / kind)["w"].array.tolist() == [1]


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


PAYLOADS = {
    "system": Call(os.system, "touch /tmp/owned"),
    "eval": Call(eval, "1"),
    "exec": Call(exec, "x = 1"),
    "__import__": Call(__import__, "os"),
    "getattr": Call(getattr, Call(getattr, object, "__class__"), "mro"),
    "open": Call(open, "/etc/passwd"),
    "bytearray": Call(bytearray, 1 << 40),
    "Popen": Call(subprocess.Popen, ["true"]),
    "numpy": np.ones(3),
}
PICKLED = [
    pytest.param(pickle.dumps({"w": payload}, protocol), refusal, id=f"{refusal}-{protocol}")
    for refusal, payload in PAYLOADS.items()
    for protocol in (2, 4, 5)
]


@pytest.mark.parametrize(("pickled", "refusal"), PICKLED)
def test_what_pickle_would_call(refused: Callable[[bytes], str], pickled: bytes, refusal: str) -> None:
    message = refused(pickled)
    assert "the global '" in message and refusal in message
    assert "which a checkpoint of weights has no use for; download it again, or choose another" in message


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("posix", "system"),
        ("nt", "system"),
        ("torch", "hub.load"),
        ("torch", "load"),
        ("torch", "FloatStorage.from_file"),
        ("torch", "FloatStorage.__init__.__globals__"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.serialization", "os.system"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch._utils", "_import_dotted_name"),
        ("torch._utils._rebuild_tensor_v2", "__globals__"),
        ("torch._tensor", "_rebuild_from_type_v2"),
        ("torch", "_utils._rebuild_tensor_v2"),
        ("torch.jit", "_unpickler"),
        ("torch.utils.model_zoo", "load_url"),
        ("torch.distributed.rpc.internal", "_internal_rpc_pickler"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "namedtuple"),
        ("builtins", "dict"),
        ("", "eval"),
        ("builtins", ""),
        ("x" * 200, "y"),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_globals_beside_the_three(refused: Callable[[bytes], str], module: str, attribute: str, stacked: bool) -> None:
    thing = text(module) + text(attribute) + b"\x93" if stacked else name(module, attribute)
    assert f"{module}.{attribute}"[:200] in refused(state_dict({"w": thing + b")" + REDUCE}))


BOMB = b")" + b"".join(b"q" + bytes([i % 256]) + b"h" + bytes([i % 256]) + b"\x86" for i in range(3000))
DEEP_KEY = b"}" + BOMB + b"N" + b"s"


def lone(instructions: bytes) -> bytes:
    """A pickle of one thing under a name."""
    return state_dict({"w": instructions})


def of(
    numel: int,
    offset: int,
    shape: list[int],
    strides: list[int],
    *,
    key: str = "0",
    kind: str = "FloatStorage",
    rest: bytes = b"",
) -> bytes:
    """A tensor of a storage."""
    return tensor(storage(key, kind, numel), offset, shape, strides, rest)


PICKLES: dict[str, tuple[bytes, str]] = {
    # memory and time
    "memo bomb as a key": (PROTO + DEEP_KEY + STOP, "a dict whose keys are neither texts nor numbers"),
    "memo bomb as a tensor": (lone(BOMB), "a dict without tensors (of tuple)"),
    "memo bomb as a storage": (lone(BOMB + b"Q"), "a storage that is described in an unknown"),
    "memo bomb as a size": (
        lone(GOOD.replace(tuple_of(number(1)), tuple_of(BOMB), 1)),
        "a size or an offset that no tensor can have",
    ),
    "list in itself": (lone(b"]q\x00h\x00a"), "a dict without tensors (of list)"),
    "a number of 2 GB": (PROTO + b"\x8b" + struct.pack("<i", 2**31 - 1), "a pickled number of 2147483647"),
    "a number of -1 bytes": (PROTO + b"\x8b" + struct.pack("<i", -1), "a pickled number of 4294967295"),
    "a text of 2^63": (PROTO + b"\x8d" + struct.pack("<Q", 2**63), "a pickled text of 9223372036854775808"),
    "a text of 4 GB": (PROTO + b"X" + struct.pack("<I", 2**32 - 1), "a pickled text of 4294967295 bytes"),
    "bytes of 2^62": (PROTO + b"\x8e" + struct.pack("<Q", 2**62), "the pickle instruction 0x8e"),
    "a bytearray of 2^62": (PROTO + b"\x96" + struct.pack("<Q", 2**62), "the pickle instruction 0x96"),
    "a memo of 2^32": (PROTO + b"N" + b"r" + struct.pack("<I", 2**32 - 1) + STOP, "not a dict of tensors"),
    "endless": (PROTO + b"N" * (MAX_INSTRUCTIONS + 1) + STOP, f"more than {MAX_INSTRUCTIONS} instructions"),
    "long": (PROTO + text("x" * 4096) * 1100 + STOP, "a pickle of more than 4194304 bytes"),
    "deep": (PROTO + MARK * (MAX_MARKS + 1), f"nested more than {MAX_MARKS} deep"),
    "nested tuples": (PROTO + b")" + b"\x85" * 100_000 + STOP, "a pickle that is not a dict of tensors"),
    "a global without an end": (PROTO + b"c" + b"x" * 10_000, "a global without an end to its name"),
    # instructions for what they are not for
    "items for a tensor": (PROTO + GOOD + text("a") + b"N" + b"s" + STOP, "items for what is not a dict"),
    "items for a storage": (PROTO + storage("0", "FloatStorage", 1) + text("a") + b"Ns" + STOP, "not a dict"),
    "items for a global": (
        PROTO + name("torch", "FloatStorage") + MARK + text("a") + b"N" + SETITEMS + STOP,
        "items for what is not a dict",
    ),
    "appended to a dict": (PROTO + b"}" + b"N" + b"a" + STOP, "items for what is not a list"),
    "an odd item": (PROTO + b"}" + MARK + text("a") + SETITEMS + STOP, "items for what is not a dict"),
    "a state for a tensor": (PROTO + GOOD + b"}" + b"b" + STOP, "an object with a state of its own"),
    "a state for a global": (PROTO + name("torch", "FloatStorage") + b"}b" + STOP, "a state of its own"),
    "a call of a storage type": (lone(name("torch", "FloatStorage") + b")R"), "not to be called"),
    "a call of a storage": (lone(storage("0", "FloatStorage", 1) + b")R"), "not to be called"),
    "a call of a text": (lone(text("eval") + b")R"), "not to be called"),
    "a call with a list": (lone(name("collections", "OrderedDict") + b"]R"), "without arguments"),
    "a filled OrderedDict": (lone(name("collections", "OrderedDict") + b"]\x85R"), "not to be"),
    "NEWOBJ": (lone(name("collections", "OrderedDict") + b")\x81"), "instruction 0x81"),
    "INST": (PROTO + MARK + b"icollections\nOrderedDict\n" + STOP, "instruction 0x69"),
    "OBJ": (PROTO + MARK + name("collections", "OrderedDict") + b"o" + STOP, "instruction 0x6f"),
    "EXT1": (PROTO + b"\x82\x01" + STOP, "instruction 0x82"),
    "PERSID": (PROTO + b"Pos.system\n" + STOP, "instruction 0x50"),
    "GLOBAL by numbers": (PROTO + b"K\x01K\x02\x93" + STOP, "a global whose name is no text"),
    "protocol 0": (b"\x80\x00" + b"}" + STOP, "a pickle of an unknown protocol"),
    "protocol 255": (b"\x80\xff" + b"}" + STOP, "a pickle of an unknown protocol"),
    "an empty stack": (PROTO + STOP, "ends in the middle of a value"),
    "two values": (PROTO + b"NN" + STOP, "ends in the middle of a value"),
    "an open mark": (PROTO + MARK + b"N" + STOP, "ends in the middle of a value"),
    "a tuple of nothing": (PROTO + TUPLE + STOP, "takes what it has not put down"),
    "below the mark": (PROTO + b"N" + MARK + b"\x85" + STOP, "takes what it has not put down"),
    "recalled before stored": (PROTO + b"h\x07" + STOP, "recalls what it has not stored"),
    "a text that is none": (PROTO + b"X\x02\x00\x00\x00\xff\xfe" + STOP, "not UTF-8"),
    "a name twice": (PROTO + ordered_dict() + MARK + (text("w") + GOOD) * 2 + SETITEMS + STOP, "'w' twice"),
    # storages and extents
    "stride 0, 10^12 elements": (
        lone(of(1, 0, [10**6, 10**6], [0, 0])),
        "a tensor of 1000000000000 elements outside of its storage of 1",
    ),
    "sizes whose product wraps": (lone(of(1, 0, [2**32, 2**32], [0, 0])), "outside of its storage"),
    "a size beyond everything": (lone(of(1, 0, [2**63], [1])), "a size or an offset that no tensor can have"),
    "a negative size": (lone(of(1, 0, [-1], [1])), "no tensor"),
    "a negative stride": (lone(of(1, 0, [1], [-4])), "no tensor"),
    "an offset behind the end": (lone(of(1, 1, [1], [1])), "outside of its storage"),
    "an offset of nothing": (lone(of(1, 2, [0], [1])), "outside"),
    "a stride past the end": (lone(of(2, 0, [2], [9])), "outside"),
    "other strides than sizes": (lone(of(1, 0, [1], [])), "fit"),
    "nine dimensions": (lone(of(1, 0, [1] * 9, [1] * 9)), "fit"),
    "true as a size": (lone(GOOD.replace(tuple_of(number(1)), tuple_of(b"\x88"), 1)), "no tensor"),
    "a storage of more than there is": (lone(of(10**9, 0, [1], [1])), "storage"),
    "a storage of another type": (lone(of(1, 0, [1], [1], kind="DoubleStorage")), ""),
    "a storage that is not there": (lone(of(1, 0, [1], [1], key="9")), "storage"),
    "a storage up the path": (lone(of(1, 0, [1], [1], key="../../0")), "storage"),
    "a storage of a global": (
        lone(tuple_of(text("storage"), name("collections", "OrderedDict"), text("0"), text("cpu"), number(1)) + b"Q"),
        "a storage of type collections.OrderedDict",
    ),
    "a storage with a view": (lone(storage("0", "FloatStorage", 1, tuple_of(text("0")))), "unknown way"),
    "a module, not a storage": (lone(tuple_of(text("module"), *[b"N"] * 4) + b"Q"), "unknown way"),
    "two descriptions": (state_dict({"v": GOOD, "w": of(1, 0, [1], [1], kind="HalfStorage")}), "two descr"),
    "hooks as metadata": (lone(of(1, 0, [1], [1], rest=text("x"))), "conjug"),
}


@pytest.mark.parametrize("attack", list(PICKLES))
def test_pickles(refused: Callable[[bytes], str], attack: str) -> None:
    pickled, found = PICKLES[attack]
    assert found in refused(pickled)


def members(**changes: bytes) -> dict[str, bytes]:
    return {"m/data.pkl": state_dict({"w": GOOD}), "m/data/0": ONE} | changes


ZIPS: dict[str, tuple[bytes, str]] = {
    "a zip bomb": (
        zip_of(members() | {"m/data/0": bytes(50 << 20)}, zipfile.ZIP_DEFLATED),
        "compressed or encrypted",
    ),
    "up the path": (
        zip_of({"../../m/data.pkl": b"", "../../m/data/0": ONE}),
        "a zip file that is not torch's",
    ),
    "an absolute path": (zip_of({"/m/data.pkl": b""}), "a zip file that is not torch's"),
    "two models": (zip_of(members() | {"n/data.pkl": b""}), "a zip file that is not torch's"),
    "an empty pickle": (zip_of(members() | {"m/data.pkl": b""}), "a file cut short"),
    "big-endian": (zip_of(members() | {"m/byteorder": b"big"}), "a big-endian machine"),
    "a storage too short": (
        zip_of(members() | {"m/data/0": b"abc"}),
        "a storage of 3 bytes instead of 1 F32",
    ),
    "a storage too long": (
        zip_of(members() | {"m/data/0": ONE * 2}),
        "a storage of 8 bytes instead of 1 F32",
    ),
    "many members": (zip_of({f"m/{i}": b"" for i in range(20_001)}), "a zip file of 20001 members"),
    "offsets beyond the file": (
        zip_of(members()).replace(b"PK\x01\x02", b"PK\x01\x02" + bytes(38) + b"\xff" * 4, 1),
        "a zip",
    ),
    "another name inside": (zip_of(members()).replace(b"m/data/0", b"m/data/1", 1), "where it is not"),
    "encrypted": (
        zip_of(members()).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
        "compressed or encrypted",
    ),
    "a second disk": (zip_of(members()).replace(b"PK\x05\x06\x00", b"PK\x05\x06\x01"), "a split zip file"),
}


@pytest.mark.parametrize("attack", list(ZIPS))
def test_zip_files(tmp_path: Path, attack: str) -> None:
    content, found = ZIPS[attack]
    assert found in assert_refused(tmp_path, content)


def test_a_member_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "z", "w") as archive:
        for _ in range(2):
            archive.writestr("m/data.pkl", state_dict({"w": GOOD}))
    content = (tmp_path / "z").read_bytes()
    assert "the zip member 'm/data.pkl' twice" in assert_refused(tmp_path, content)


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ([], "storages other than those that the tensors need"),
        (["0", "0"], "an unknown list of storages"),
        (["0", "1"], "storages other than those"),
        (["../0"], "storages other than those"),
    ],
)
def test_storage_keys_of_the_older_container(tmp_path: Path, keys: list[str], found: str) -> None:
    whole = legacy_of(state_dict({"w": GOOD}), {"0": (1, ONE)})
    right = b"]" + MARK + text("0") + b"e"
    content = whole.replace(right, b"]" + MARK + b"".join(map(text, keys)) + b"e")
    assert found in assert_refused(tmp_path, content)


@pytest.mark.parametrize("count", [-1, 0, 2, 2**62])
def test_storage_lengths_of_the_older_container(tmp_path: Path, count: int) -> None:
    content = legacy_of(state_dict({"w": GOOD}), {"0": (count, ONE)})
    assert "a storage that is not of the 1 elements" in assert_refused(tmp_path, content)


def test_a_big_endian_machine(tmp_path: Path) -> None:
    content = legacy_of(state_dict({"w": GOOD}), {"0": (1, ONE)})
    found = assert_refused(tmp_path, content.replace(text("little_endian") + b"\x88", text("little_endian") + b"\x89"))
    assert "numbers of a big-endian machine" in found
