"""Is this still the same file? SHA-256, of a model's sources and of a packed file's data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dialocpp.errors import CheckpointError

_CHUNK = 1 << 20
_IS_SHA256 = re.compile("[0-9a-f]{64}")


def fingerprint_of(files: list[Path]) -> str:
    """SHA-256 of one file; of several, that of their digests in order.

    The Hub's cache names a large file by the SHA-256 that the Hub has of it: CheckpointError if it is
    another.
    """
    digests = [_sha256(path, 0) for path in files]
    for path, digest in zip(files, digests, strict=True):
        blob = path.resolve()
        if blob.parent.name == "blobs" and _IS_SHA256.fullmatch(blob.name) and blob.name != digest.hex():
            raise CheckpointError(
                f"expected a file with the SHA-256 that the Hub has of it in {blob}, found {digest.hex()}; "
                "delete it, so that it is downloaded again"
            )
    return digests[0].hex() if len(digests) == 1 else hashlib.sha256(b"".join(digests)).hexdigest()


@contextmanager
def fingerprint_meanwhile(files: list[Path]) -> Iterator[Callable[[], str]]:
    """The same from another thread while this one does something else: call the value to wait for it."""
    from concurrent.futures import ThreadPoolExecutor  # here: it takes logging along, which no later load needs

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(fingerprint_of, files).result


def header_sha256(path: Path) -> str:
    """SHA-256 of the header of a safetensors file that has been validated."""
    with path.open("rb") as file:
        length = file.read(8)
        return hashlib.sha256(length + file.read(int.from_bytes(length, "little"))).hexdigest()


def data_sha256(path: Path) -> str:
    """SHA-256 of what follows the header of a safetensors file."""
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    return _sha256(path, 8 + header).hex()


def _sha256(path: Path, start: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()
