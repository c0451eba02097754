"""How long does the first load of a DialoGPT-medium-shaped torch .bin take, in how much memory, and every later one?

    python bench/first_load.py FOLDER        (needs torch to write the 863 MB once; Linux)

Prints one JSON line a load: the first with a place for the int8 copy, the next that maps it, and a first load
where the copy cannot be written.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

L, C, V, T = 24, 1024, 50257, 1024
SIZES = {"n_layer": L, "n_embd": C, "n_head": 16, "n_positions": T, "n_ctx": T, "vocab_size": V}

_PROGRAM = """
import json, sys, time, warnings
from pathlib import Path
from dialocpp.checkpoint import load_checkpoint
warnings.simplefilter("ignore")
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
begin = time.perf_counter()
tensors = load_checkpoint(sys.argv[1]).tensors
seconds = time.perf_counter() - begin
result = sum(array.nbytes for array in tensors.values())
print(json.dumps({"load": sys.argv[2], "seconds": round(seconds, 3), "peak_bytes": peak(), "result_bytes": result}))
"""


def write(folder: Path) -> None:
    """All that microsoft/DialoGPT-medium's file holds: float16, masks and a second copy of the embedding, no zip."""
    import torch

    def normal(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape) * 0.02).half()

    torch.manual_seed(0)
    state = {"transformer.wte.weight": normal(V, C), "transformer.wpe.weight": normal(T, C)}
    for layer in range(L):
        h = f"transformer.h.{layer}."
        state[f"{h}attn.bias"] = torch.tril(torch.ones(1, 1, T, T)).half()
        for norm in ("ln_1", "ln_2"):
            state |= {f"{h}{norm}.weight": normal(C) + 1, f"{h}{norm}.bias": normal(C)}
        for name, inputs, outputs in (
            *(("attn.c_attn", C, 3 * C), ("attn.c_proj", C, C)),
            *(("mlp.c_fc", C, 4 * C), ("mlp.c_proj", 4 * C, C)),
        ):
            state |= {f"{h}{name}.weight": normal(inputs, outputs), f"{h}{name}.bias": normal(outputs)}
    state |= {"transformer.ln_f.weight": normal(C) + 1, "transformer.ln_f.bias": normal(C)}
    state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / "config.json").write_text(json.dumps(SIZES))


def main(folder: Path) -> None:
    """Write the model if it is not there, then load it three times, each in a process of its own."""
    if not (folder / "pytorch_model.bin").exists():
        write(folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        cache = Path(scratch) / "cache"
        for load in ("first", "mapped", "first, no place to write"):
            if load == "first, no place to write":
                shutil.rmtree(cache)
                cache.touch()
            environment = {**os.environ, "DIALOCPP_CACHE": str(cache)}
            subprocess.run([sys.executable, "-c", _PROGRAM, str(folder), load], check=True, env=environment)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
