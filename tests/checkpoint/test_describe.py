"""Is what was found in a model's folder told in full?"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from dialocpp.checkpoint import export_checkpoint, load_checkpoint
from dialocpp.checkpoint.describe import describe
from dialocpp.checkpoint.packed import cache as quantised_cache
from dialocpp.errors import CheckpointError
from small_models import Gpt2, hf_name
from torch_files import CONTAINERS


def test_a_torch_file(tmp_path: Path, tiny: Gpt2, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised_cache, "MIN_SOURCE_BYTES", 0)
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "m"))
    (folder / "model.safetensors").unlink()
    masks = {f"transformer.h.{i}.attn.bias": np.ones((1, 1, 4, 4), np.uint8) for i in range(2)}
    named = {hf_name(name): array.astype(np.float16) for name, array in tiny.tensors.items()}
    count = sum(array.size for array in named.values())
    for kind, words in (("legacy", "torch's older container"), ("zip", "torch's zip container")):
        (folder / "pytorch_model.bin").write_bytes(CONTAINERS[kind](named | masks))
        facts = dict(describe(folder))
        assert facts["weights"] == f"pytorch_model.bin, {words}, {count:,} × F16, 32 × U8"
        assert facts["not needed"] == "2 tensors, such as transformer.h.0.attn.bias"
        assert facts["tokenizer"] == "tokenizer.json (tokenizer.json)"
        assert facts["int8 copy"] == "none yet; the first load makes it"
    load_checkpoint(folder)
    assert Path(dict(describe(folder))["int8 copy"]).is_file()


def test_other_folders(tmp_path: Path, tiny_folder: Path) -> None:
    assert "model.safetensors, safetensors, " in dict(describe(tiny_folder))["weights"]
    packed = dict(describe(export_checkpoint(tiny_folder, tmp_path / "packed")))
    assert packed["weights"].startswith("model.dialocpp.safetensors, packed as int8, ")
    assert "a model of its own" in packed["int8 copy"]
    with pytest.raises(CheckpointError, match="found none of them"):
        dict(describe(tmp_path))
