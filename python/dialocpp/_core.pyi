"""The compiled core: arrays and token ids in, token ids out. It knows no files, no text and no network."""

from collections.abc import Sequence as Seq
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U16 = npt.NDArray[np.uint16]

testing: ModuleType
"""Every kernel of every rung as a numpy function, for the tests."""

ACTIVATIONS: tuple[str, ...]
"""The activation functions that the core computes, under transformers' names."""


class Config:
    """The numbers of a GPT-2, under config.json's names. ValueError when they do not fit together."""

    def __init__(
        self,
        *,
        vocab_size: int,
        n_positions: int,
        n_embd: int,
        n_layer: int,
        n_head: int,
        n_inner: int,
        activation_function: str,
        layer_norm_epsilon: float,
        scale_attn_weights: bool = True,
        scale_attn_by_inverse_layer_idx: bool = False,
        tie_word_embeddings: bool = True,
        num_labels: int = 0,
    ) -> None:
        """`num_labels`: 0 for a language model, whose outputs are the V tokens; else a classifier's outputs."""

class TensorSpec:
    """One tensor that a checkpoint must hold."""

    @property
    def name(self) -> str:
        """Without the prefix `transformer.`: `h.0.attn.c_attn.weight`."""
    @property
    def shape(self) -> tuple[int, ...]:
        """As Hugging Face stores it: (in, out) for the Conv1D layers, (V, C) for `wte.weight` and `lm_head.weight`,
        (num_labels, C) for `score.weight`."""
    @property
    def kind(self) -> str:
        """`conv1d` (a linear, stored (in, out)), `linear` (stored (out, in)), `table` (rows) or `vector`."""

def tensor_table(config: Config) -> list[TensorSpec]: ...

DTYPES: tuple[str, ...]
"""The formats in which the core keeps the weights of linear layers."""

def packed_layout(inputs: int, outputs: int, dtype: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Suffix of `X.weight` -> (numpy dtype, shape) of each array that `pack` gives. ValueError for an unknown dtype.

    An array's first dimension counts blocks of 16 outputs, or outputs if it has no other.
    """

def pack(weight: F32, dtype: str, in_out: bool) -> dict[str, npt.NDArray[Any]]:
    """(K, N) if `in_out`, else (N, K) -> the arrays in which the core reads it; N is padded with zeros to 16.

    float32 and float16: (N/16, K, 16), float16 rounded to nearest even. int8: (N/16, K/4, 16, 4), K padded to 4, with
    `_scale` (N,) and `_sum` (N,): symmetric per output channel, w = scale * q, |q| <= 127, sum[n] = sum_k q[n, k].
    ValueError for an unknown dtype, or if the format cannot hold a weight: 65520 or more in float16, NaN in int8.
    """

def widen_bf16(bits: U16) -> F32: ...
def widen_f16(bits: U16) -> F32: ...

class Weights:
    """Weights in the core's own layout, read in place: each array is kept alive, none is copied.

    `tensors`: for each name of `tensor_table`, its packed form; every last dimension padded to 16.
    A linear is what `pack` gives, `X.weight` and what belongs beside it; each linear has a format of its own.
    ValueError names what is missing or misshaped.
    """

    def __init__(self, config: Config, tensors: dict[str, npt.NDArray[Any]]) -> None: ...
    @property
    def weight_bytes(self) -> int: ...

class SamplingParams:
    """The rules of one request; their meaning and order are Hugging Face's. ValueError on a bad value.

    Lists may name ids that the vocabulary lacks: nothing happens.
    """

    def __init__(
        self,
        *,
        do_sample: bool = False,
        sequence_bias: Seq[tuple[Seq[int], float]] = (),
        repetition_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        no_repeat_ngram_size: int = 0,
        bad_words_ids: Seq[Seq[int]] = (),
        min_new_tokens: int = 0,
        forced_eos_token_ids: Seq[int] = (),
        suppress_tokens: Seq[int] = (),
        begin_suppress_tokens: Seq[int] = (),
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        typical_p: float = 1.0,
        epsilon_cutoff: float = 0.0,
        eta_cutoff: float = 0.0,
        eos_token_ids: Seq[int] = (),
        seed: int = 0,
        reply_start: int = 0,
        penalty_start: int = 0,
        max_length: int = 0,
    ) -> None:
        """`reply_start`: the position of the reply's first token; `penalty_start`: the first position that
        repetition_penalty and no_repeat_ngram_size look at; `max_length`: tokens that the sequence can have at most
        (0: unknown), of which forced_eos_token_ids is the last.
        """

class Sequence:
    """Token ids and their KV cache. Owns its positions; frees its pages when dropped."""

    def __len__(self) -> int: ...
    @property
    def tokens(self) -> list[int]: ...
    def fork(self, length: int | None = None) -> Sequence:
        """A second sequence with the first `length` positions; the cache pages are shared until one of them writes."""
    def truncate(self, length: int) -> None: ...

class Work:
    """One sequence's part of a step: append `tokens`, and tell what is asked for about them.

    `sampling`: choose the next token by these rules, and never one of `bans`; with `top_logprobs` >= 0 its
    log-probability and so many of the most probable ones, before the rules; with `n_best` > 0 instead of a choice the
    n best continuations by their log-probability after the rules. `scored`: the log-probabilities of the last so many
    of `tokens`, each given all before it. `logits`: instead of a choice the model's outputs after the last token, after
    the rules' processors if there is a sampling; `draw` goes on from there.
    """

    def __init__(
        self,
        sequence: Sequence,
        tokens: Seq[int],
        sampling: SamplingParams | None = None,
        *,
        bans: Seq[int] = (),
        n_best: int = 0,
        top_logprobs: int = -1,
        scored: int = 0,
        logits: bool = False,
    ) -> None: ...
    def __len__(self) -> int:
        """Number of tokens."""

def draw(sampling: SamplingParams, position: int, scores: F32) -> int:
    """Choose by processed logits (V,), as a step does it: the best one, or the warpers and a draw."""

class TokenScore:
    """A token and its score."""

    @property
    def id(self) -> int: ...
    @property
    def score(self) -> float: ...

class Outcome:
    """What a work asked for; the rest is empty."""

    @property
    def token(self) -> int:
        """The chosen token, which is not appended to the sequence; -1 if none was asked for."""
    @property
    def logprob(self) -> float:
        """Its log-probability in the model's own distribution, with `top_logprobs`."""
    @property
    def best(self) -> list[TokenScore]:
        """Of `n_best` or `top_logprobs`, highest first."""
    @property
    def logprobs(self) -> list[float]:
        """Of `scored`."""
    @property
    def logits(self) -> F32:
        """float32 (V,), a copy."""

class Engine:
    """Sequences in, tokens out. Safe from many threads; steps run one after the other, without the GIL."""

    def __init__(
        self, weights: Weights, num_threads: int, kv_cache_bytes: int, *, kv_dtype: str | None = None
    ) -> None:
        """`kv_dtype`: how keys and values are kept, float32 or float16; None takes what suits the weights: float16 for
        int8, whose own error is larger than half precision's, else float32. ValueError for another.
        """
    def sequence(self) -> Sequence: ...
    def step(self, work: Seq[Work]) -> list[Outcome]:
        """Run GPT-2 once over all rows and answer each work.

        A sequence may occur once in `work`. On an error every sequence is as it was.
        CapacityError: a sequence would outgrow n_positions, or the cache is full. ValueError: an id outside the
        vocabulary, or a token asked of a classifier.
        """
    def logits(self, tokens: Seq[int]) -> F32:
        """float32 (T, V), or (T, num_labels) of a classifier: the logits after each token, from an empty cache."""
    def logprobs(self, tokens: Seq[int]) -> F32:
        """float32 (T-1,): log P(tokens[t+1] | tokens[..t]), without ever holding (T, V).

        ValueError for a classifier: it has no probabilities of tokens.
        """
    @property
    def num_threads(self) -> int: ...
    @property
    def kv_bytes_in_use(self) -> int: ...

def cpu_features() -> list[str]: ...
def isa_ladder() -> list[tuple[str, str, list[str]]]:
    """(name, sentence, missing CPU features) for every rung, in climbing order."""
def chosen_isa() -> str:
    """The rung in use. BackendError if DIALOCPP_ISA names a rung that does not exist or that this CPU lacks."""
def default_num_threads() -> int:
    """Physical cores, within this process's affinity and its cgroup's CPU quota; at least 1."""
def roofs(num_threads: int, read_bytes: int) -> tuple[float, float, float]:
    """What this machine can do at best with so many threads: bytes read, int8 and float32 operations a second.

    Measured here and now: `read_bytes` of memory are read, and the dot-product instructions of the chosen rung run on
    registers alone.
    """
