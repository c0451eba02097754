"""How much memory does a first load take? The result, and of the source a part of one tensor."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_models import gpt2_config, hf_name, random_gpt2
from torch_files import CONTAINERS

_PROGRAM = """
import json, sys
from pathlib import Path
from dialocpp.checkpoint import load_checkpoint
from dialocpp.checkpoint.packed import cache as quantised_cache
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
quantised_cache.MIN_SOURCE_BYTES = int(sys.argv[2])
before = peak()
tensors = load_checkpoint(sys.argv[1]).tensors
print(json.dumps([peak() - before, sum(array.nbytes for array in tensors.values())]))
"""


@pytest.fixture(scope="module", params=list(CONTAINERS))
def large_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nearly all of this model is its embedding, as in a small DialoGPT, and that lies there twice."""
    folder = tmp_path_factory.mktemp("large")
    gpt2 = random_gpt2(gpt2_config(vocab_size=60_000, n_positions=64, n_embd=256, n_layer=2, n_head=4))
    arrays = {hf_name(name): array.astype(np.float16) for name, array in gpt2.tensors.items()}
    arrays["lm_head.weight"] = arrays["transformer.wte.weight"]
    (folder / "pytorch_model.bin").write_bytes(CONTAINERS[request.param](arrays))
    (folder / "config.json").write_text(json.dumps(gpt2.config))
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize("cached", [True, False])
def test_peak_of_a_first_load(large_folder: Path, cached: bool) -> None:
    smallest = 0 if cached else 1 << 40
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(large_folder), str(smallest)], capture_output=True, check=True
    )
    grown, result = json.loads(run.stdout)
    embedding = 60_000 * 256 * 2
    # Mapped pages that were not given back, or the embedding in float32, would alone be 62 MB.
    assert grown < result + embedding
