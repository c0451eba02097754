"""What does GPT-2 compute? The one slow truth: everything fast is compared with this page.

Letters: M rows, C channels, L layers, H heads, D head size, T positions, V vocabulary, K/N inputs/outputs of
a linear. A config is a Hugging Face GPT2Config or the dict of a config.json; tensors have Hugging Face's
names without the prefix `transformer.`, and its shapes: a linear is a Conv1D, stored (K, N).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import erf, expit

Array = NDArray[Any]


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def gelu_erf(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,  # the same formula in transformers, with sqrt(2/pi) written as 0.7978845608
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu": gelu_erf,
    "quick_gelu": lambda x: x * expit(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * expit(x),
    "tanh": np.tanh,
}


def layer_norm(x: Array, gain: Array, bias: Array, eps: float) -> Array:
    """(T, C) -> (T, C), each row on its own."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * gain + bias


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(q: Array, k: Array, v: Array, scale: float) -> Array:
    """(H, T, D) each -> (H, T, D): position t looks at positions 0..t."""
    T = q.shape[1]
    scores = q @ k.transpose(0, 2, 1) * scale  # (H, T, T)
    future = np.triu(np.ones((T, T), dtype=bool), k=1)
    return softmax(np.where(future, -np.inf, scores)) @ v


def gpt2_logits(
    config: Any, tensors: Mapping[str, Array], tokens: Sequence[int], dtype: DTypeLike = np.float64
) -> Array:
    """Token ids (T,) -> logits (T, V) in `dtype`, the type in which everything is computed.

    Of a classifier, which has a `score`, (T, num_labels).
    """
    settings = config if isinstance(config, Mapping) else vars(config)

    def tensor(name: str) -> Array:
        return np.asarray(tensors[name]).astype(dtype, copy=False)

    def linear(x: Array, name: str) -> Array:  # (T, K) -> (T, N)
        return x @ tensor(f"{name}.weight") + tensor(f"{name}.bias")

    def norm(x: Array, name: str) -> Array:
        eps = settings.get("layer_norm_epsilon", 1e-5)
        return layer_norm(x, tensor(f"{name}.weight"), tensor(f"{name}.bias"), eps)

    activate = ACTIVATIONS[settings.get("activation_function", "gelu_new")]
    H, T = settings["n_head"], len(tokens)
    x = tensor("wte.weight")[list(tokens)] + tensor("wpe.weight")[:T]  # (T, C)
    C = x.shape[1]
    for layer in range(settings["n_layer"]):
        block = f"h.{layer}"
        scale = (C // H) ** -0.5 if settings.get("scale_attn_weights", True) else 1.0
        if settings.get("scale_attn_by_inverse_layer_idx", False):
            scale /= layer + 1

        qkv = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn")  # (T, 3C)
        q, k, v = qkv.reshape(T, 3, H, C // H).transpose(1, 2, 0, 3)  # (H, T, D) each
        heads = attention(q, k, v, scale).transpose(1, 0, 2).reshape(T, C)
        x = x + linear(heads, f"{block}.attn.c_proj")

        hidden = activate(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"))  # (T, n_inner)
        x = x + linear(hidden, f"{block}.mlp.c_proj")

    head = "wte.weight" if settings.get("tie_word_embeddings", True) else "lm_head.weight"
    head = "score.weight" if "score.weight" in tensors else head
    return norm(x, "ln_f") @ tensor(head).T  # (T, V)
