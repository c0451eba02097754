"""Does one call load a folder or the bundled model, and does each mistake get its own sentence?"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoints import entries, unpacked_f32, write_shards
from dialocpp.checkpoint import Source, export_checkpoint, load_checkpoint
from dialocpp.checkpoint.resolve import DEMO_FOLDER
from dialocpp.errors import CheckpointError
from dialocpp.text.tokenizer import Tokenizer
from small_models import Gpt2


@pytest.fixture
def packed_folder(tmp_path: Path, tiny_folder: Path) -> Path:
    return export_checkpoint(tiny_folder, tmp_path / "packed")


def test_a_folder(tiny_folder: Path, tiny: Gpt2) -> None:
    checkpoint = load_checkpoint(tiny_folder, dtype="float32")
    assert (checkpoint.name, checkpoint.folder, checkpoint.dtype) == (
        str(tiny_folder),
        tiny_folder,
        "float32",
    )
    assert checkpoint.config.n_embd == 40 and checkpoint.generation_config == {}
    wte = unpacked_f32(checkpoint.tensors["wte.weight"], 40, 97)
    np.testing.assert_array_equal(wte.T, tiny.tensors["wte.weight"])


def test_auto_is_int8(tiny_folder: Path) -> None:
    checkpoint = load_checkpoint(str(tiny_folder))
    assert checkpoint.dtype == "int8" and checkpoint.tensors["wte.weight"].dtype == np.int8


def test_the_generation_config_is_read(tmp_path: Path, tiny_folder: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    (folder / "generation_config.json").write_text('{"eos_token_id": 3}')
    assert load_checkpoint(folder).generation_config == {"eos_token_id": 3}
    packed = export_checkpoint(folder, tmp_path / "packed")
    assert load_checkpoint(packed).generation_config == {"eos_token_id": 3}
    (folder / "generation_config.json").write_text("[]")
    with pytest.raises(
        CheckpointError, match=r"expected a JSON object in .*generation_config\.json, found list"
    ):
        load_checkpoint(folder)


def test_the_fingerprint_is_that_of_the_source(
    tmp_path: Path, tiny_folder: Path, packed_folder: Path
) -> None:
    expected = hashlib.sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest()
    assert load_checkpoint(tiny_folder).fingerprint == expected
    assert load_checkpoint(packed_folder).fingerprint == expected


def test_the_fingerprint_of_shards_depends_on_each(tmp_path: Path, tiny: Gpt2) -> None:
    folder = write_shards(tmp_path, tiny.config, entries(tiny))
    first = load_checkpoint(folder).fingerprint
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    assert load_checkpoint(folder).fingerprint != first


@pytest.mark.parametrize("dtype", ["int4", "", "FLOAT32", None])
def test_unknown_dtype(tiny_folder: Path, dtype: str) -> None:
    with pytest.raises(ValueError, match="expected dtype to be one of auto, float32, float16, int8, found"):
        load_checkpoint(tiny_folder, dtype=dtype)
    with pytest.raises(ValueError, match="expected dtype to be one of float32, float16, int8, found"):
        export_checkpoint(tiny_folder, "unused", dtype=dtype)


def test_a_packed_folder_has_one_dtype(packed_folder: Path) -> None:
    assert load_checkpoint(packed_folder, dtype="int8").dtype == "int8"
    with pytest.raises(ValueError, match=r"expected dtype auto or int8 for .*, found 'float32'"):
        load_checkpoint(packed_folder, dtype="float32")


def test_a_folder_with_packed_and_plain_weights(tiny_folder: Path, packed_folder: Path) -> None:
    shutil.copy(tiny_folder / "model.safetensors", packed_folder)
    assert load_checkpoint(packed_folder).tensors["wte.weight"].flags.owndata is False
    assert load_checkpoint(packed_folder, dtype="float32").dtype == "float32"


def test_packed_weights_belong_to_their_config(packed_folder: Path) -> None:
    path = packed_folder / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"eos_token_id": [1, 2]}))
    assert load_checkpoint(packed_folder).config.eos_token_ids == (1, 2)
    path.write_text(json.dumps(values | {"n_head": 4}))
    with pytest.raises(
        CheckpointError, match=r"expected the config\.json with which .* was made, found another"
    ):
        load_checkpoint(packed_folder)


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a readable file .*config\.json, found none"):
        load_checkpoint(tmp_path)


def test_a_file_instead_of_a_folder(tiny_folder: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"expected a model's folder, found the file .*model\.safetensors"
    ):
        load_checkpoint(tiny_folder / "model.safetensors")


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "a/b/c", "no where", Path("nowhere"), "~/nowhere", "~nobody/x"]
)
def test_a_path_that_does_not_exist(name: str | Path) -> None:
    with pytest.raises(CheckpointError, match="no folder here and no name that the Hub allows; check the path"):
        load_checkpoint(name)


def test_an_empty_name() -> None:
    with pytest.raises(CheckpointError, match="found an empty text; leave it out for the bundled model"):
        load_checkpoint("")


@pytest.mark.parametrize("name", ["double--dash/model", "a/.git", "model..name", "x" * 97, "x" * 300])
def test_a_name_that_the_hub_forbids(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"expected .* folder .*, found .*; check the "):
        load_checkpoint(Source(name, local_files_only=True))


def test_a_name_that_is_not_cached(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"expected .* whole in the local cache, found no .* no config"
    ):
        load_checkpoint(Source("someone/something", cache_dir=tmp_path, local_files_only=True))


def test_export_into_the_source(tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="expected an output folder other than the model's own"):
        export_checkpoint(tiny_folder, f"{tiny_folder}/.")


def test_export_of_a_packed_model(tmp_path: Path, packed_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="found only weights that are packed already"):
        export_checkpoint(packed_folder, tmp_path / "again")


def test_export_without_a_tokenizer(tmp_path: Path, tiny: Gpt2) -> None:
    folder = write_shards(tmp_path / "source", tiny.config, entries(tiny))
    with pytest.raises(CheckpointError, match="expected a tokenizer, found no file of one"):
        export_checkpoint(folder, tmp_path / "out")


def test_export_writes_a_head_that_is_shared_as_tied(tmp_path: Path, tiny: Gpt2, tiny_folder: Path) -> None:
    head = {"lm_head.weight": entries(tiny)["transformer.wte.weight"]}
    folder = write_shards(
        tmp_path / "source", tiny.config | {"tie_word_embeddings": False}, entries(tiny) | head
    )
    shutil.copy(tiny_folder / "tokenizer.json", folder)
    packed = load_checkpoint(export_checkpoint(folder, tmp_path / "out"))
    assert packed.config.tie_word_embeddings and "lm_head.weight" not in packed.tensors


def test_the_bundled_model() -> None:
    checkpoint = load_checkpoint()
    assert (checkpoint.name, checkpoint.folder, checkpoint.dtype) == ("dialocpp-demo", DEMO_FOLDER, "int8")
    assert (checkpoint.config.n_layer, checkpoint.config.n_embd) == (6, 256)
    tokenizer = Tokenizer.from_folder(checkpoint.folder, checkpoint.config.eos_token_ids)
    assert tokenizer.vocab_size == checkpoint.config.vocab_size
    assert sum(path.stat().st_size for path in DEMO_FOLDER.iterdir()) <= 10_000_000
    attribution = (DEMO_FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for source in (
        "Self-dialogue",
        "Topical-Chat",
        "Synthetic-Persona-Chat",
        "Meena",
        "CaSiNo",
        "ChatterBot",
    ):
        assert source in attribution


def test_the_bundled_model_is_the_shared_one(tmp_path: Path, shared: Path) -> None:
    again = export_checkpoint(shared / "models" / "demo", tmp_path / "demo")
    for name in ("tokenizer.json", "config.json", "generation_config.json", "tokenizer_config.json"):
        assert (again / name).read_bytes() == (DEMO_FOLDER / name).read_bytes(), name
    bundled, fresh = load_checkpoint(), load_checkpoint(again)
    assert bundled.fingerprint == fresh.fingerprint
    assert all(np.array_equal(bundled.tensors[name], fresh.tensors[name]) for name in fresh.tensors)


def test_an_installation_without_the_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dialocpp.checkpoint.resolve.DEMO_FOLDER", tmp_path / "gone")
    with pytest.raises(
        CheckpointError, match=r"expected the bundled model in .*, found no such folder; reinstall"
    ):
        load_checkpoint()


def test_a_folder_needs_no_huggingface_hub(tiny_folder: Path) -> None:
    program = (
        "import sys; from dialocpp.checkpoint import load_checkpoint; from dialocpp.text.tokenizer import Tokenizer;"
        "Tokenizer.from_folder(load_checkpoint(sys.argv[1]).folder);"
        "assert not {'huggingface_hub', 'torch', 'transformers', 'requests', 'httpx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, os.fspath(tiny_folder)], check=True, timeout=60)


def test_a_source_never_shows_its_token() -> None:
    assert "hf_secret" not in repr(Source("someone/private", token="hf_secret"))
