"""Is the packed file mapped as it lies, written whole or not at all, and refused whenever it is not right?"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import stored_tensors
from dialocpp.checkpoint import export_checkpoint, load_checkpoint
from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.files import PACKED
from dialocpp.checkpoint.packed.pack import Array, packed_tensors
from dialocpp.checkpoint.packed.reader import read_packed
from dialocpp.checkpoint.packed.writer import write_packed
from dialocpp.errors import CheckpointError
from safetensors.numpy import load_file
from small_models import Gpt2

Header = dict[str, Any]


@pytest.fixture(params=["float32", "int8"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pack(gpt2: Gpt2, dtype: str) -> tuple[ModelConfig, list[tuple[str, Array]]]:
    config = ModelConfig.from_dict(gpt2.config)
    return config, list(packed_tensors(config, stored_tensors(gpt2), dtype))


@pytest.fixture
def packed_file(tmp_path: Path, tiny: Gpt2, dtype: str) -> Path:
    path = tmp_path / PACKED
    config, tensors = pack(tiny, dtype)
    write_packed(path, config, dtype, lambda: "ab" * 32, tensors)
    return path


def split(path: Path) -> tuple[Header, bytes]:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def rewrite(path: Path, change: Callable[[Header], Any], pad: bool = True) -> None:
    """Change the header of a packed file and leave its data alone."""
    header, data = split(path)
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64 if pad else 8 - (8 + len(text)) % 64 % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_what_is_written_is_read_back(packed_file: Path, tiny: Gpt2, dtype: str) -> None:
    config, tensors = pack(tiny, dtype)
    read = read_packed(packed_file)
    assert (read.config, read.dtype, read.source_sha256) == (config, dtype, "ab" * 32)
    assert list(read.tensors) == [name for name, _ in tensors]
    for name, array in tensors:
        assert read.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(read.tensors[name], array)


def test_tensors_are_aligned_views_of_the_file(packed_file: Path) -> None:
    for name, array in read_packed(packed_file).tensors.items():
        assert array.ctypes.data % 64 == 0, name
        assert not array.flags.owndata and not array.flags.writeable, name


def test_it_is_plain_safetensors_as_the_specification_says(packed_file: Path, dtype: str) -> None:
    tensors = read_packed(packed_file).tensors
    theirs = load_file(packed_file)
    assert theirs.keys() == tensors.keys()
    assert all(np.array_equal(theirs[name], tensors[name]) for name in tensors)
    header, data = split(packed_file)
    assert (packed_file.stat().st_size - len(data)) % 64 == 0
    metadata = header.pop("__metadata__")
    assert metadata.keys() == {
        *("format", "format_version", "dtype", "config", "source_sha256", "data_sha256", "producer")
    }
    assert metadata["data_sha256"] == hashlib.sha256(data).hexdigest()
    assert (metadata["format"], metadata["format_version"], metadata["dtype"]) == ("dialocpp", "1", dtype)
    assert metadata["producer"].startswith("dialocpp ")
    assert all((end - begin) % 64 == 0 for begin, end in (entry["data_offsets"] for entry in header.values()))


def test_writing_is_deterministic(packed_file: Path, tmp_path: Path, tiny: Gpt2, dtype: str) -> None:
    config, tensors = pack(tiny, dtype)
    write_packed(tmp_path / "again", config, dtype, lambda: "ab" * 32, tensors)
    assert (tmp_path / "again").read_bytes() == packed_file.read_bytes()


def set_metadata(key: str, value: str | None) -> Callable[[Header], Any]:
    def change(header: Header) -> None:
        header["__metadata__"].pop(key)
        if value is not None:
            header["__metadata__"][key] = value

    return change


def rename(header: Header) -> None:
    header["h.9.ln_1.bias"] = header.pop("h.1.ln_1.bias")


def reshape(header: Header) -> None:
    header["wpe.weight"]["shape"] = [32, 96]


def retype(header: Header) -> None:
    header["ln_f.bias"]["dtype"] = "I32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.pop("__metadata__"), "expected format 'dialocpp' in its metadata, found None"),
        (set_metadata("format", "pt"), "expected format 'dialocpp' in its metadata, found 'pt'"),
        (set_metadata("format_version", "2"), "expected format version 1, found '2'"),
        (set_metadata("format_version", None), "expected format version 1, found None"),
        (set_metadata("dtype", "int3"), "expected a dtype of float32, float16, int8, found 'int3'"),
        (set_metadata("config", None), "expected a config in its metadata, found"),
        (set_metadata("config", "{"), "expected a config in its metadata, found"),
        (set_metadata("config", "[]"), r"expected a config in its metadata, found \[\]"),
        (set_metadata("config", '{"model_type": "t5"}'), "expected model_type gpt2, found 't5'"),
        (set_metadata("config", '{"n_embd": 768}'), "expected the packed tensors that its config describes"),
        (rename, r"found no h\.1\.ln_1\.bias, h\.9\.ln_1\.bias, which does not belong here; quantise"),
        (reshape, r"found wpe\.weight F32 \(32, 96\) instead of F32 \(64, 48\); quantise"),
        (retype, r"found ln_f\.bias I32 \(48,\) instead of F32 \(48,\); quantise"),
    ],
)
@pytest.mark.parametrize("dtype", ["int8"], indirect=True)
def test_a_wrong_header_is_refused(packed_file: Path, change: Callable[[Header], Any], message: str) -> None:
    rewrite(packed_file, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_packed(packed_file)
    assert str(packed_file) in str(caught.value)


@pytest.mark.parametrize("dtype", ["int8"], indirect=True)
def test_data_off_its_boundary_is_refused(packed_file: Path) -> None:
    header, data = split(packed_file)
    text = json.dumps(header).encode()
    text += b" " * ((24 - len(text)) % 64)  # 8 + 24 is half a boundary
    packed_file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    with pytest.raises(CheckpointError, match=r"wte\.weight off its 64-byte boundary"):
        read_packed(packed_file)


@pytest.mark.parametrize("dtype", ["int8"], indirect=True)
@pytest.mark.parametrize("length", [7, 1000, -64])
def test_a_file_cut_short_is_refused(packed_file: Path, length: int) -> None:
    packed_file.write_bytes(packed_file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        read_packed(packed_file)


@pytest.mark.parametrize("dtype", ["int8"], indirect=True)
def test_an_interrupted_writer_leaves_the_old_file(packed_file: Path, tiny: Gpt2, dtype: str) -> None:
    before = packed_file.read_bytes()
    config, tensors = pack(tiny, dtype)

    def interrupted() -> Iterator[tuple[str, Array]]:
        yield from tensors[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_packed(packed_file, config, dtype, "", interrupted())
    assert packed_file.read_bytes() == before
    assert [path.name for path in packed_file.parent.iterdir()] == [PACKED]


@pytest.mark.parametrize("dtype", ["int8"], indirect=True)
@pytest.mark.parametrize(
    "change", [lambda t: t[1:], lambda t: t[:-1], lambda t: [*t, t[-1]], lambda t: t[::-1]]
)
def test_a_writer_refuses_other_tensors(
    tmp_path: Path, tiny: Gpt2, dtype: str, change: Callable[..., Any]
) -> None:
    config, tensors = pack(tiny, dtype)
    with pytest.raises(ValueError, match=r"expected wte|zip\(\)"):
        write_packed(tmp_path / PACKED, config, dtype, "", change(tensors))
    assert list(tmp_path.iterdir()) == []


def test_an_exported_folder_holds_what_loading_the_source_gives(
    tmp_path: Path, tiny_folder: Path, dtype: str
) -> None:
    folder = export_checkpoint(tiny_folder, tmp_path / "packed", dtype=dtype)
    source, packed = load_checkpoint(tiny_folder, dtype=dtype), load_checkpoint(folder)
    assert (packed.dtype, packed.config, packed.fingerprint) == (dtype, source.config, source.fingerprint)
    assert packed.tensors.keys() == source.tensors.keys()
    assert all(np.array_equal(packed.tensors[name], source.tensors[name]) for name in source.tensors)
    names = {"config.json", PACKED, "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "tokenizer.json").read_bytes() == (tiny_folder / "tokenizer.json").read_bytes()
