"""Does any byte string make the reader of torch files do anything but read it or raise CheckpointError?

    pip install atheris
    python tests/fuzz/fuzz_torch_file.py CORPUS -max_total_time=600 -rss_limit_mb=600 -timeout=5

The corpus is filled with small right files the first time. Half of the inputs are put as a pickle into a
sound zip file, so that its checksums and offsets do not hide the pickle from the mutator. Not part of the
test suite: it runs for minutes.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

with atheris.instrument_imports(include=["dialocpp.checkpoint"]):
    from dialocpp.checkpoint.torch_files.torch_file import torch_tensors
from dialocpp.errors import CheckpointError

FILE = Path(f"/dev/shm/dialocpp-fuzz-{__import__('os').getpid()}.bin")


def run(data: bytes) -> None:
    FILE.write_bytes(wrapped(data))
    try:
        tensors = torch_tensors(FILE)
    except CheckpointError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
        return
    for tensor in tensors.values():
        assert tensor.array.nbytes <= len(data) + 64
        tensor.array.tobytes()  # every element lies in the mapping


def wrapped(data: bytes) -> bytes:
    """The bytes as a file, or (first byte odd) as the pickle of a sound zip file with two storages."""
    if not data or data[0] % 2 == 0:
        return data[1:]
    from torch_files import zip_of

    return zip_of({"m/data.pkl": data[1:], "m/data/0": bytes(48), "m/data/1": bytes(16)})


def fill(corpus: Path) -> None:
    import numpy as np
    from torch_files import CONTAINERS, described, state_dict

    corpus.mkdir(parents=True, exist_ok=True)
    arrays = {"a": np.ones((3, 4), np.float32), "b": np.ones((2, 2), np.float32)}
    for name, container in CONTAINERS.items():
        (corpus / name).write_bytes(b"\0" + container(arrays))
    (corpus / "pickle").write_bytes(b"\1" + state_dict(described(arrays)))


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        fill(Path(sys.argv[1]))
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
