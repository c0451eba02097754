"""What was found in a model's folder? Facts for people, from the files' headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path

from .files import PACKED, TOKENIZERS, weight_files
from .mapped import MappedTensor, map_safetensors
from .packed.cache import cache_file
from .source import tensors_of
from .stored_tensor import StoredTensor
from .tensor_names import is_needless, plain_names

_ZIP = b"PK\x03\x04"
_TOKENIZER_KINDS = ("tokenizer.json", "GPT-2's tables", "a BERT vocabulary", "a sentencepiece model")


def describe(folder: Path) -> Iterator[tuple[str, str]]:
    """(what, how it is) for the weights, the tokenizer and the int8 copy. CheckpointError as in loading."""
    if (folder / PACKED).is_file():
        packed = map_safetensors(folder / PACKED)
        yield (
            "weights",
            f"{PACKED}, packed as {packed.metadata.get('dtype')}, {_contents(packed.tensors.values())}",
        )
        yield "int8 copy", "none: the packed file is a model of its own, used as it is"
    else:
        yield from _source(folder)
    for names, kind in zip(TOKENIZERS, _TOKENIZER_KINDS, strict=True):
        if all((folder / name).is_file() for name in names):
            yield "tokenizer", f"{kind} ({', '.join(names)})"
            return
    yield "tokenizer", "none"


def _source(folder: Path) -> Iterator[tuple[str, str]]:
    files = weight_files(folder)
    tensors = {name: tensor for file in files for name, tensor in tensors_of(file).items()}
    names = files[0].name if len(files) == 1 else f"{len(files)} files, {files[0].name} first"
    yield "weights", f"{names}, {_container(files[0])}, {_contents(tensors.values())}"
    dropped = [name for name, plain in plain_names(tensors).items() if is_needless(plain)]
    if dropped:
        yield "not needed", f"{len(dropped)} tensors, such as {dropped[0]}"
    yield "int8 copy", _copy_of(files)


def _copy_of(files: list[Path]) -> str:
    """Where it is, if it is: a load checks more than that there is one."""
    try:
        copy = cache_file(files)
        return str(copy) if copy.is_file() else "none yet; the first load makes it"
    except OSError as error:
        return f"none ({error.strerror})"


def _container(file: Path) -> str:
    if file.suffix == ".safetensors":
        return "safetensors"
    with file.open("rb") as opened:
        return "torch's zip container" if opened.read(4) == _ZIP else "torch's older container"


def _contents(tensors: Iterable[StoredTensor | MappedTensor]) -> str:
    counts: Counter[str] = Counter()
    for tensor in tensors:
        counts[tensor.dtype] += prod(tensor.shape)
    return ", ".join(f"{count:,} × {dtype}" for dtype, count in counts.most_common())
