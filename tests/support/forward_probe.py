"""Which logits does the ISA rung of this process compute? `python forward_probe.py FILE` saves them.

The rung is chosen once in a process, by DIALOCPP_ISA: so each rung needs a process of its own.
"""

import sys

import numpy as np
from dialocpp import _core
from numpy.typing import NDArray
from small_models import VARIANTS, Gpt2, gpt2_config, random_gpt2

DTYPES = ("float32", "int8")
WIDE = {"vocab_size": 301, "n_positions": 160, "n_embd": 160, "n_layer": 3, "n_head": 2}
LANES = 16


def models() -> dict[str, Gpt2]:
    """Every variant in awkward sizes, one with heads and prompts of several vectors and pages, and classifiers."""
    made = {name: random_gpt2(gpt2_config(**changes), seed=3) for name, changes in VARIANTS.items()}
    made |= {f"{n} labels": random_gpt2(gpt2_config(num_labels=n), seed=3) for n in (1, 17)}
    return made | {"wide": random_gpt2(gpt2_config(**WIDE), seed=3)}


def prompt(gpt2: Gpt2) -> list[int]:
    """As many ids as the model has positions."""
    sizes = gpt2.config
    return np.random.default_rng(4).integers(0, sizes["vocab_size"], sizes["n_positions"]).tolist()


def engine(
    gpt2: Gpt2, dtype: str, num_threads: int = 1, kv_cache_bytes: int = 1 << 26, kv_dtype: str | None = None
) -> _core.Engine:
    """The core on these weights, packed as its contract says: no checkpoint code in between."""
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "activation_function")
    names += (
        "layer_norm_epsilon",
        "scale_attn_weights",
        "scale_attn_by_inverse_layer_idx",
        "tie_word_embeddings",
        "num_labels",
    )
    known = {name: gpt2.config[name] for name in names if name in gpt2.config}
    config = _core.Config(**known, n_inner=gpt2.config["n_inner"] or 4 * gpt2.config["n_embd"])
    packed = {}
    for spec in _core.tensor_table(config):
        tensor = gpt2.tensors[spec.name]
        assert tensor.shape == spec.shape
        if spec.kind in ("vector", "table"):
            packed[spec.name] = _padded(tensor)
        else:
            kept = "float32" if spec.name == "score.weight" else dtype  # no dtype rounds it
            parts = _core.pack(tensor, kept, spec.kind == "conv1d")
            packed |= {spec.name + suffix: part for suffix, part in parts.items()}
    return _core.Engine(_core.Weights(config, packed), num_threads, kv_cache_bytes, kv_dtype=kv_dtype)


def _padded(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % LANES)])


if __name__ == "__main__":
    logits = {
        f"{name} {dtype}": engine(gpt2, dtype).logits(prompt(gpt2))
        for name, gpt2 in models().items()
        for dtype in DTYPES
    }
    np.savez(sys.argv[1], isa=_core.chosen_isa(), **logits)
