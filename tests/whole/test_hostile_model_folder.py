"""Can a model's folder, as a stranger made it, write anywhere or bring its own int8 copy? Whole programs.

Each attack is planted in a folder or in an entry of the Hub's cache; then `dialocpp pull` loads the model twice.
Nothing but the user's own cache may have changed, and the weights must be those of the source.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dialocpp.checkpoint import load_checkpoint
from dialocpp.checkpoint.packed import cache as quantised_cache
from safetensors.numpy import load_file, save_file

_PROGRAM = """
import hashlib, sys
import numpy as np
from dialocpp.checkpoint import load_checkpoint
from dialocpp.checkpoint.packed import cache
cache.MIN_SOURCE_BYTES = 0
from dialocpp.cli import main
main(["pull", sys.argv[1]], standalone_mode=False)
tensors = load_checkpoint(sys.argv[1]).tensors
print(hashlib.sha256(b"".join(np.ascontiguousarray(array).data for array in tensors.values())).hexdigest())
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="plants links and modes as POSIX has them")


def pull(folder: Path, cache: Path) -> "tuple[str, str]":
    """The hash of the weights that are used, and what was said on stderr."""
    environment = {**os.environ, "DIALOCPP_CACHE": str(cache)}
    command = [sys.executable, "-c", _PROGRAM, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    path, digest = done.stdout.splitlines()
    assert path == str(folder)
    return digest, done.stderr


def state(root: Path) -> dict[str, tuple[object, ...]]:
    """All that can be told of a tree without reading times of access."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: object = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_ino, status.st_mtime_ns, content)
    return found


def expected_weights(folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantised_cache, "MIN_SOURCE_BYTES", 1 << 60)
        tensors = load_checkpoint(folder).tensors
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).data for array in tensors.values())).hexdigest()


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the user's, with a file that matters."""
    folder = tmp_path / "home"
    (folder / "sub").mkdir(parents=True)
    (folder / "profile").write_text("export PATH\n")
    return folder


@pytest.fixture
def model(tmp_path: Path, tiny_folder: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "stranger" / "m"))


@pytest.fixture
def planted_copy(tmp_path: Path, model: Path) -> Path:
    """A cache as another user's dialocpp makes it: of other weights that then take the genuine ones' fingerprint."""
    mine = tmp_path / "attacker"
    other = Path(shutil.copytree(model, tmp_path / "other"))
    tensors = load_file(other / "model.safetensors")
    tensors["transformer.ln_f.bias"] = tensors["transformer.ln_f.bias"] + 3
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    pull(other, mine)
    (copy,) = (mine / "int8").glob("*.safetensors")
    genuine, false = (
        hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest().encode() for folder in (model, other)
    )
    copy.write_bytes(copy.read_bytes().replace(false, genuine))
    return mine / "int8"


LINKS = {
    "a .gitignore that is a file of yours": (".dialocpp/.gitignore", "profile"),
    "a lock elsewhere": (".dialocpp/lock", "made-by-a-lock"),
    "a folder elsewhere": (".dialocpp", "sub"),
    "a folder of ours by another name": ("int8", "sub"),
    "a temporary file of ours": (".dialocpp-00000000-0000000000000000.tmp", "profile"),
    "a folder for a copy": ("dialocpp", "sub"),
}


@pytest.mark.parametrize(("name", "target"), LINKS.values(), ids=LINKS)
def test_no_link_in_the_folder_is_written_through(
    model: Path, victim: Path, tmp_path: Path, name: str, target: str
) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).symlink_to(victim / target)
    before = state(victim) | state(model)
    found, said = pull(model, tmp_path / "cache")
    assert found == expected_weights(model) and not said
    assert state(victim) | state(model) == before


def _in_folder(model: Path, copies: Path) -> Path:
    """Under the name that a release before had for it, and under today's."""
    (model / ".dialocpp").mkdir()
    names = hashlib.sha256(b"model.safetensors").hexdigest()[:16]
    for path in copies.iterdir():
        shutil.copy(path, model / ".dialocpp" / path.name)
        shutil.copy(path, model / ".dialocpp" / f"{names}-int8-v1{path.suffix}")
    return model


def _in_hub_entry(model: Path, copies: Path) -> Path:
    snapshot = model.parent / "models--a--b" / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    model.rename(snapshot)
    shutil.copytree(copies, snapshot.parents[1] / "dialocpp")
    return snapshot


def _beside(model: Path, copies: Path) -> Path:
    shutil.copytree(copies, model / "int8")
    shutil.copytree(copies, model.parent / "int8")
    return model


@pytest.mark.parametrize("plant", [_in_folder, _in_hub_entry, _beside])
def test_no_copy_that_comes_with_a_model_is_believed(
    model: Path, planted_copy: Path, tmp_path: Path, plant: Callable[[Path, Path], Path]
) -> None:
    folder = plant(model, planted_copy)
    before = state(tmp_path / "stranger")
    found, said = pull(folder, tmp_path / "cache")
    assert found == expected_weights(folder) and not said
    assert state(tmp_path / "stranger") == before
    assert len(list((tmp_path / "cache" / "int8").glob("*.safetensors"))) == 1


def test_a_stamp_that_was_made_elsewhere_does_not_fit(model: Path, planted_copy: Path, tmp_path: Path) -> None:
    """Another user's copy and stamp under the right names, as an archive of a whole cache would bring them."""
    cache = tmp_path / "cache"
    pull(model, cache)
    (copy,) = (cache / "int8").glob("*.safetensors")
    stamp = json.loads(copy.with_suffix(".json").read_bytes())
    theirs = json.loads(next(planted_copy.glob("*.json")).read_bytes())
    for path in planted_copy.iterdir():
        shutil.copy(path, copy.with_suffix(path.suffix))
    copy.with_suffix(".json").write_text(json.dumps(theirs | {"source": stamp["source"]}))
    found, _ = pull(model, cache)
    assert found == expected_weights(model)


def test_a_folder_that_is_not_mine_to_write_has_a_copy_too(model: Path, tmp_path: Path) -> None:
    for path in (*model.iterdir(), model):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        found, said = pull(model, tmp_path / "cache")
        assert found == expected_weights(model) and not said
        assert len(list((tmp_path / "cache" / "int8").glob("*.safetensors"))) == 1
    finally:
        model.chmod(0o755)


@pytest.mark.parametrize("name", ["model.dialocpp.safetensors", "config.json", "tokenizer.json"])
def test_quantize_writes_through_no_link_in_its_output(model: Path, victim: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).symlink_to(victim / "profile")
    before = state(victim)
    subprocess.run(
        [sys.executable, "-m", "dialocpp", "quantize", str(model), "-o", str(out)], check=True, capture_output=True
    )
    assert state(victim) == before and not (out / name).is_symlink()
