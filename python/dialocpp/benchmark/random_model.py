"""What can be measured without the real checkpoint? Random weights of its shape cost the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
from safetensors.numpy import save_file
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from dialocpp.checkpoint.config import ModelConfig

F16 = npt.NDArray[np.float16]

# layers, channels, heads
SHAPES: dict[str, tuple[int, int, int]] = {
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
    "large": (36, 1280, 20),
}
VOCAB_SIZE = 50257
END_OF_TEXT = "<|endoftext|>"


def write_random_model(
    folder: Path, shape: str = "small", *, tokenizer_folder: Path | None = None, seed: int = 0
) -> Path:
    """A folder as `save_pretrained` writes it: config, float16 weights, a tokenizer of 50,257 tokens.

    `tokenizer_folder` holds GPT-2's vocab.json and merges.txt; without it the tokenizer knows bytes and pairs
    of bytes only. The weights come last: a folder that holds them is complete. ValueError for no such shape.
    """
    config = shape_config(shape)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _write_tokenizer(folder, tokenizer_folder)
    # Written under another name first: an interrupted run must not look like a model.
    unfinished = folder / "model.safetensors.unfinished"
    save_file(_random_tensors(config, seed), unfinished, metadata={"format": "pt"})
    unfinished.replace(folder / "model.safetensors")
    return folder


def shape_config(shape: str) -> dict[str, Any]:
    """DialoGPT's config.json for a shape, with every value that readers of GPT-2 ask for."""
    if shape not in SHAPES:
        raise ValueError(f"expected a shape of {', '.join(SHAPES)}, found {shape!r}; choose one of them")
    layers, channels, heads = SHAPES[shape]
    values = {"vocab_size": VOCAB_SIZE, "n_positions": 1024, "n_embd": channels}
    values |= {"n_layer": layers, "n_head": heads}
    # llama.cpp's converter reads n_ctx.
    extra = {"n_ctx": 1024, "initializer_range": 0.02, "use_cache": True, "dtype": "float16"}
    return ModelConfig.from_dict(values).to_dict() | extra


def _random_tensors(config: dict[str, Any], seed: int) -> dict[str, F16]:
    """GPT-2's initialisation under Hugging Face's names, with random biases."""
    rng = np.random.default_rng(seed)
    channels, inner = config["n_embd"], config["n_inner"]
    tensors: dict[str, F16] = {}

    def normal(name: str, *shape: int) -> None:
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        tensors[f"transformer.{name}"] = values.astype(np.float16)

    def linear(name: str, inputs: int, outputs: int) -> None:
        normal(f"{name}.weight", inputs, outputs)
        normal(f"{name}.bias", outputs)

    def norm(name: str) -> None:
        tensors[f"transformer.{name}.weight"] = np.ones(channels, np.float16)
        normal(f"{name}.bias", channels)

    normal("wte.weight", config["vocab_size"], channels)
    normal("wpe.weight", config["n_positions"], channels)
    for layer in range(config["n_layer"]):
        norm(f"h.{layer}.ln_1")
        linear(f"h.{layer}.attn.c_attn", channels, 3 * channels)
        linear(f"h.{layer}.attn.c_proj", channels, channels)
        norm(f"h.{layer}.ln_2")
        linear(f"h.{layer}.mlp.c_fc", channels, inner)
        linear(f"h.{layer}.mlp.c_proj", inner, channels)
    norm("ln_f")
    return tensors


def _write_tokenizer(folder: Path, source: Path | None) -> None:
    if source is None:
        tokenizer = _byte_pair_tokenizer()
    else:
        for name in ("vocab.json", "merges.txt"):
            shutil.copyfile(source / name, folder / name)
        bpe = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{kind}_token": END_OF_TEXT for kind in ("bos", "eos", "unk")}
    settings = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024, "add_prefix_space": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | names, indent=2) + "\n")


def _byte_pair_tokenizer() -> tokenizers.Tokenizer:
    """Every byte and the first 50,000 pairs of bytes: GPT-2's size, nobody's language."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(first, second) for first in alphabet for second in alphabet]
    merges = pairs[: VOCAB_SIZE - 1 - len(alphabet)]
    symbols = alphabet + [first + second for first, second in merges]
    vocab = {symbol: index for index, symbol in enumerate(symbols)} | {END_OF_TEXT: VOCAB_SIZE - 1}
    return tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
