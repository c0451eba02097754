"""Small random GPT-2s with awkward sizes, their tokenizers and their folders."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference import ACTIVATIONS
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END_OF_TEXT = "<|endoftext|>"


Config = dict[str, Any]


Tensors = dict[str, NDArray[np.float32]]


# Everything that a config can say about the computation.
VARIANTS: dict[str, Config] = {
    "plain": {},
    "one head": {"n_head": 1},
    "one layer": {"n_layer": 1},
    "narrow inner": {"n_inner": 24},
    "wide inner": {"n_inner": 200},
    "untied": {"tie_word_embeddings": False},
    "unscaled attention": {"scale_attn_weights": False},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 4},
    "only scaled by layer": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "upcast attention": {"reorder_and_upcast_attn": True},
    "large epsilon": {"layer_norm_epsilon": 1e-2},
} | {name: {"activation_function": name} for name in ACTIVATIONS}


@dataclass(frozen=True)
class Gpt2:
    """A config under Hugging Face's names, and tensors (float32) without the prefix `transformer.`."""

    config: Config
    tensors: Tensors


def gpt2_config(**changes: Any) -> Config:
    """A config.json of awkward sizes: no size is a multiple of a vector, C / H = 8, V is odd."""
    sizes: Config = {"vocab_size": 97, "n_positions": 64, "n_embd": 40, "n_layer": 2, "n_head": 5}
    rest: Config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    }
    config = sizes | rest | changes
    end_of_text = config["vocab_size"] - 1
    return {"bos_token_id": end_of_text, "eos_token_id": end_of_text} | config


def random_gpt2(config: Config, seed: int = 0, gain: float = 1.5, end_lift: float = 0.0) -> Gpt2:
    """The same weights on every machine, of a size with which each part of the network moves the logits.

    `gain`: how much larger a linear's output is than its input. The more, the less a reply repeats itself,
    and the more rounding matters. `end_lift` raises the logit of end-of-text, in its standard deviations: a
    random model hardly ever ends its turn otherwise.
    """
    rng = np.random.default_rng(seed)
    C, V = config["n_embd"], config["vocab_size"]
    inner = config["n_inner"] or 4 * C
    tensors: Tensors = {}

    def normal(name: str, shape: tuple[int, ...], spread: float, centre: float = 0.0) -> None:
        values = rng.standard_normal(shape, dtype=np.float32)
        tensors[name] = values * np.float32(spread) + np.float32(centre)

    def linear(name: str, K: int, N: int) -> None:
        normal(f"{name}.weight", (K, N), gain * K**-0.5)
        normal(f"{name}.bias", (N,), 0.1)

    def norm(name: str) -> None:
        normal(f"{name}.weight", (C,), 0.1, centre=1.0)
        normal(f"{name}.bias", (C,), 0.1)

    # A tied head favours the token that it has just read. Embeddings that are small beside what the blocks
    # add keep that from deciding every choice.
    normal("wte.weight", (V, C), 0.3)
    normal("wpe.weight", (config["n_positions"], C), 0.3)
    for layer in range(config["n_layer"]):
        norm(f"h.{layer}.ln_1")
        linear(f"h.{layer}.attn.c_attn", C, 3 * C)
        linear(f"h.{layer}.attn.c_proj", C, C)
        norm(f"h.{layer}.ln_2")
        linear(f"h.{layer}.mlp.c_fc", C, inner)
        linear(f"h.{layer}.mlp.c_proj", inner, C)
    norm("ln_f")
    if config.get("num_labels"):
        normal("score.weight", (config["num_labels"], C), 0.3)
    elif not config["tie_word_embeddings"]:
        normal("lm_head.weight", (V, C), 0.3)
    end = tensors["wte.weight"][config["eos_token_id"]]
    tensors["ln_f.bias"] += np.float32(end_lift) * end / np.linalg.norm(end)
    return Gpt2(config, tensors)


def byte_level_tokenizer(vocab_size: int) -> Tokenizer:
    """A byte-level BPE of exactly this size: ASCII, the other bytes, merges of common pairs, end-of-text.

    With fewer than 257 tokens, the bytes that get none are dropped from a text: 97 is printable ASCII, the
    newline and end-of-text.
    """
    ordinary = vocab_size - 1
    # Byte-level BPE spells the space Ġ and the newline Ċ.
    printable = [*(chr(code) for code in range(0x21, 0x7F)), "Ġ", "Ċ"]
    others = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(printable))
    symbols = (printable + others)[:ordinary]
    words = [("Ġ", letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
    pairs = words + [(first, second) for first, second in _COMMON_PAIRS.split()]
    merges = pairs[: ordinary - len(symbols)]
    symbols += [first + second for first, second in merges]
    assert len(symbols) == ordinary, f"no byte-level tokenizer of {vocab_size} tokens: take more pairs"
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    return tokenizer


_COMMON_PAIRS = "th he in er an re on at en nd ti es or te of ed is it"


def write_checkpoint(folder: Path, gpt2: Gpt2, dtype: type[np.floating[Any]] = np.float32) -> Path:
    """config.json, and model.safetensors with `transformer.` names as Hugging Face saves it. No tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(gpt2.config, indent=2))
    named = {hf_name(name): tensor.astype(dtype) for name, tensor in gpt2.tensors.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def hf_name(name: str) -> str:
    """The name of a tensor in a GPT2LMHeadModel or a GPT2ForSequenceClassification."""
    return name if name.startswith(("lm_head.", "score.")) else f"transformer.{name}"
