"""Is the int8 copy made once, trusted only while it is right, and never in a model's way?"""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp.checkpoint import load_checkpoint
from dialocpp.checkpoint.files import weight_files
from dialocpp.checkpoint.load import LoadedCheckpoint
from dialocpp.checkpoint.own_files.file_lock import locked
from dialocpp.checkpoint.own_files.held_folder import HeldFolder
from dialocpp.checkpoint.own_files.user_cache import own_folder
from dialocpp.checkpoint.own_files.whole_file import temporaries
from dialocpp.checkpoint.packed import cache as quantised_cache
from dialocpp.errors import CacheWarning, CheckpointError
from dialocpp.model import Model
from safetensors.numpy import load_file, save_file
from small_models import Gpt2, gpt2_config, random_gpt2

KILLS = int(os.environ.get("DIALOCPP_KILLS", "6"))  # 200 take two minutes

_PROGRAM = """
import hashlib, sys, warnings
import numpy as np
from dialocpp.checkpoint import load_checkpoint
from dialocpp.checkpoint.packed import cache as quantised_cache
quantised_cache.MIN_SOURCE_BYTES = 0
print("ready", flush=True)
sys.stdin.readline()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    tensors = load_checkpoint(sys.argv[1]).tensors
digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).data for array in tensors.values()))
print(digest.hexdigest(), len(caught), flush=True)
"""


LEAST_BYTES = quantised_cache.MIN_SOURCE_BYTES


@pytest.fixture(autouse=True)
def small_models_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And a cache for each test."""
    monkeypatch.setattr(quantised_cache, "MIN_SOURCE_BYTES", 0)
    monkeypatch.setenv("DIALOCPP_CACHE", str(tmp_path / "own" / "cache"))


@pytest.fixture
def folder(tmp_path: Path, tiny_folder: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def made(folder: Path) -> Path:
    """The copy that a first load has made."""
    load_checkpoint(folder)
    return the_copy(folder)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The copies that are written from now on."""
    written: list[Path] = []
    write = quantised_cache._write

    def noted(held: HeldFolder, copy: Any, *arguments: Any) -> None:
        write(held, copy, *arguments)
        written.append(held.path / copy.name)

    monkeypatch.setattr(quantised_cache, "_write", noted)
    return written


def the_copy(folder: Path) -> Path:
    path = quantised_cache.cache_file(weight_files(folder))
    assert path.is_file()
    return path


def half_written() -> list[str]:
    with own_folder(quantised_cache.FOLDER) as held:
        return temporaries(held)


def assert_same(found: LoadedCheckpoint, expected: LoadedCheckpoint) -> None:
    assert (found.config, found.dtype) == (expected.config, expected.dtype)
    assert found.tensors.keys() == expected.tensors.keys()
    for name, array in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def without_cache(folder: Path) -> LoadedCheckpoint:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantised_cache, "MIN_SOURCE_BYTES", 1 << 60)
        return load_checkpoint(folder)


def is_mapped(checkpoint: LoadedCheckpoint) -> bool:
    return not any(array.flags.owndata for array in checkpoint.tensors.values())


# Made once


def test_the_first_load_writes_and_the_next_maps(
    folder: Path, writes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_checkpoint(folder)
    assert writes == [the_copy(folder)]
    monkeypatch.setattr(quantised_cache, "read_source", None)  # the source is not read again
    monkeypatch.setattr(quantised_cache, "fingerprint_of", None)
    second = load_checkpoint(folder)
    expected = without_cache(folder)
    for checkpoint in (first, second):
        assert is_mapped(checkpoint) and checkpoint.folder == folder
        assert checkpoint.fingerprint == expected.fingerprint
        assert_same(checkpoint, expected)
    assert len(writes) == 1


def test_it_is_plain_safetensors(made: Path, folder: Path) -> None:
    theirs = load_file(made)
    ours = load_checkpoint(folder).tensors
    assert theirs.keys() == ours.keys() and all(np.array_equal(theirs[name], ours[name]) for name in ours)


def test_float32_and_small_models_leave_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_checkpoint(folder, dtype="float32")
    monkeypatch.setattr(quantised_cache, "MIN_SOURCE_BYTES", LEAST_BYTES)
    load_checkpoint(folder)
    assert not quantised_cache.cache_folder().exists()


def test_revisions_of_a_hub_model_share_it(tmp_path: Path, tiny_folder: Path, writes: list[Path]) -> None:
    entry = tmp_path / "models--someone--tiny"
    snapshot = entry / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (entry / "blobs").mkdir()
    for path in tiny_folder.iterdir():
        blob = Path(shutil.copy(path, entry / "blobs" / f"hash-of-{path.name}"))
        (snapshot / path.name).symlink_to(blob)
    before = sorted(path for path in tmp_path.rglob("*") if "own" not in path.parts)
    load_checkpoint(snapshot)
    assert sorted(path for path in tmp_path.rglob("*") if "own" not in path.parts) == before
    other = Path(shutil.copytree(snapshot, entry / "snapshots" / "4567", symlinks=True))
    assert_same(load_checkpoint(other), load_checkpoint(snapshot))
    assert writes == [the_copy(snapshot)]


def test_a_model_that_is_gone_takes_its_copy_along(folder: Path, made: Path, writes: list[Path]) -> None:
    twin = Path(shutil.copytree(folder, folder.with_name("twin")))
    third = Path(shutil.copytree(folder, folder.with_name("third")))
    load_checkpoint(twin)
    copies = [the_copy(folder), the_copy(twin)]
    assert writes == copies[1:] and made == copies[0]
    shutil.rmtree(twin)
    load_checkpoint(third)  # making a copy is the time to look
    kept = {path.name.partition("-")[0].partition(".")[0] for path in quantised_cache.cache_folder().iterdir()}
    assert kept == {path.name.partition("-")[0] for path in (made, the_copy(third))}


# Trusted only while it is right


def test_damage_anywhere_is_found(folder: Path, made: Path, writes: list[Path]) -> None:
    expected, whole = without_cache(folder), made.read_bytes()
    rng = random.Random(0)
    places = [*range(8), *(rng.randrange(8, len(whole)) for _ in range(30)), len(whole) - 1]
    for i, place in enumerate(places):
        made.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << i % 8]) + whole[place + 1 :])
        assert_same(load_checkpoint(folder), expected)
        assert_same(load_checkpoint(folder), expected)
    assert len(writes) <= len(places)
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        made.write_bytes(whole[:length])
        assert_same(load_checkpoint(folder), expected)
    made.write_bytes(whole + b"\0")
    assert_same(load_checkpoint(folder), expected)


ODD_STAMPS = [None, b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"source": 1, "copy": 2}', b'{"copy": ' * 9999, b"7"]


@pytest.mark.parametrize("content", ODD_STAMPS, ids=range(len(ODD_STAMPS)))
def test_a_copy_without_a_right_stamp_is_not_believed(
    folder: Path, made: Path, writes: list[Path], content: bytes | None
) -> None:
    stamp = made.with_suffix(".json")
    stamp.unlink() if content is None else stamp.write_bytes(content)
    for _ in range(2):
        assert_same(load_checkpoint(folder), without_cache(folder))
    assert writes == [made]


def test_a_copy_that_was_only_touched_is_hashed_and_kept(folder: Path, made: Path, writes: list[Path]) -> None:
    expected = without_cache(folder)
    os.utime(made)
    assert_same(load_checkpoint(folder), expected)
    stamp = json.loads(made.with_suffix(".json").read_bytes())
    assert stamp["copy"][1] == made.stat().st_mtime_ns
    assert not writes


@pytest.mark.parametrize("place", ["header", "data"])
def test_other_weights_in_the_copy_are_found(folder: Path, made: Path, writes: list[Path], place: str) -> None:
    """Whole and genuine by all that it says of itself: its own hash is right, and so is the source's."""
    expected = without_cache(folder)
    content = bytearray(made.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    if place == "data":
        content[-1] ^= 1
    old = hashlib.sha256(made.read_bytes()[begin:]).hexdigest().encode()
    new = hashlib.sha256(content[begin:]).hexdigest().encode()
    content = bytearray(content.replace(old, new).replace(b'"producer":"dialocpp', b'"producer":"DIALOCPP'))
    made.write_bytes(content)
    assert_same(load_checkpoint(folder), expected)
    assert writes == [made]


@pytest.mark.parametrize("hidden", [False, True], ids=["plainly", "same size and time"])
def test_other_weights_make_another_copy(folder: Path, made: Path, writes: list[Path], hidden: bool) -> None:
    source = folder / "model.safetensors"
    tensors, status = load_file(source), source.stat()
    tensors["transformer.ln_f.bias"] = tensors["transformer.ln_f.bias"] + 1
    save_file(tensors, source, metadata={"format": "pt"})
    if hidden:
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (source.stat().st_size, source.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert_same(load_checkpoint(folder), without_cache(folder))
    assert len(writes) == 1


def test_touching_the_source_hashes_but_does_not_quantise(folder: Path, made: Path, writes: list[Path]) -> None:
    os.utime(folder / "model.safetensors")
    assert_same(load_checkpoint(folder), without_cache(folder))
    assert not writes


def test_another_config(folder: Path, made: Path, writes: list[Path]) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"eos_token_id": [1, 2]}))
    assert load_checkpoint(folder).config.eos_token_ids == (1, 2) and not writes
    path.write_text(json.dumps(values | {"n_head": 4}))
    assert load_checkpoint(folder).config.n_head == 4 and len(writes) == 1
    path.write_text(json.dumps(values | {"n_layer": 3}))
    with pytest.raises(CheckpointError, match="missing"):
        load_checkpoint(folder)


def test_another_way_to_quantise(folder: Path, made: Path, writes: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised_cache, "RECIPE", 99)
    for _ in range(2):
        assert_same(load_checkpoint(folder), without_cache(folder))
    assert len(writes) == 1


def test_a_head_that_is_found_to_be_tied_stays_so(tmp_path: Path, tiny: Gpt2, folder: Path) -> None:
    source = folder / "model.safetensors"
    tensors = load_file(source)
    save_file(tensors | {"lm_head.weight": tensors["transformer.wte.weight"].copy()}, source)
    (folder / "config.json").write_text(json.dumps(tiny.config | {"tie_word_embeddings": False}))
    for _ in range(2):
        checkpoint = load_checkpoint(folder)
        assert checkpoint.config.tie_word_embeddings and "lm_head.weight" not in checkpoint.tensors


def test_weights_that_are_no_numbers_leave_no_copy(folder: Path) -> None:
    source = folder / "model.safetensors"
    tensors = load_file(source)
    tensors["transformer.ln_f.bias"][0] = np.nan
    save_file(tensors, source)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"expected finite numbers in ln_f\.bias"):
            load_checkpoint(folder)
    assert {path.suffix for path in quantised_cache.cache_folder().iterdir()} == {".lock"}


def test_copies_of_another_version_are_removed(folder: Path, made: Path) -> None:
    old = made.with_name(made.name.replace("-v1", "-v0"))
    shutil.copy(made, old)
    made.unlink()
    load_checkpoint(folder)
    assert the_copy(folder) == made and not old.exists()


# Never in the way


def test_no_place_to_write(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("a file where a folder is to be")
    with pytest.warns(CacheWarning, match=r"found that it cannot be written \(.*\); every load will quantise"):
        checkpoint = load_checkpoint(folder)
    assert_same(checkpoint, without_cache(folder))


@pytest.mark.parametrize("moment", ["posix_fallocate", "fsync"])
def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not hasattr(os, moment):
        pytest.skip(f"this system has no {moment}")
    monkeypatch.setattr(os, moment, full)
    with pytest.warns(CacheWarning, match=r"cannot be written \(No space left on device\)"):
        checkpoint = load_checkpoint(folder)
    assert_same(checkpoint, without_cache(folder))
    assert not half_written() and not list(quantised_cache.cache_folder().glob("*.safetensors"))
    monkeypatch.undo()


def test_a_file_that_may_not_grow(folder: Path) -> None:
    """The kernel itself refuses to write so much."""
    resource = pytest.importorskip("resource")
    child = start(folder, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999)))
    assert child.communicate("go\n", timeout=120)[0].split()[1:] == ["1"]
    assert child.returncode == 0
    assert not half_written() and not list(quantised_cache.cache_folder().glob("*.safetensors"))


def test_another_process_that_does_not_let_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised_cache, "PATIENCE_S", 0.0)
    lock = quantised_cache._Copy.of(weight_files(folder)).lock
    with (
        own_folder(quantised_cache.FOLDER) as held,
        locked(held, lock, 0),
        pytest.warns(CacheWarning, match="another process has held"),
    ):
        assert_same(load_checkpoint(folder), without_cache(folder))


# Several processes


def start(folder: Path, **options: Any) -> "subprocess.Popen[str]":
    """A process that is about to load the folder: it waits for a line."""
    command = [sys.executable, "-c", _PROGRAM, os.fspath(folder)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def test_several_processes_at_once(folder: Path) -> None:
    children = [start(folder) for _ in range(3)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = {child.communicate(timeout=120)[0] for child in children}
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(answers) == 1 and answers.pop().split()[1] == "0"  # the same weights, no warning


@pytest.fixture(scope="module")
def slow_folder(tmp_path_factory: pytest.TempPathFactory, save_folder: Callable[[Gpt2], Path]) -> Path:
    """A model of 10 MB, so that writing its copy takes a while in which to be killed."""
    sizes = {"vocab_size": 301, "n_positions": 64, "n_embd": 256, "n_layer": 3, "n_head": 4}
    return save_folder(random_gpt2(gpt2_config(**sizes)))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills in another way")
def test_killed_at_any_moment(slow_folder: Path) -> None:
    expected = without_cache(slow_folder)
    logits = Model(expected).logits([1, 2, 3])
    rng = random.Random()
    duration, half, whole = 0.3, 0, 0
    load_checkpoint(slow_folder)
    cache = quantised_cache.cache_folder()
    for _ in range(KILLS):
        for path in cache.glob("*.safetensors"):
            path.unlink()
        child = start(slow_folder)
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        time.sleep(rng.uniform(0, duration))
        child.kill()
        answer = child.communicate()[0]
        # The moments are spread over the time that a load takes here and now.
        duration = min(2.0, max(0.05, duration * (0.9 if answer else 1.05)))
        half += bool(half_written())
        whole += any(cache.glob("*.safetensors"))
        checkpoint = load_checkpoint(slow_folder)
        assert_same(checkpoint, expected)
        np.testing.assert_array_equal(Model(checkpoint).logits([1, 2, 3]), logits)
        assert is_mapped(load_checkpoint(slow_folder))
    assert len(list(cache.iterdir())) == 3  # the copy, its stamp, the lock: no leftovers
    print(f"{KILLS} kills: {half} left a half-written file, {whole} a whole copy")
