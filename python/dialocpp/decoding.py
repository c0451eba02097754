"""How shall tokens be chosen? Every generation argument with its default, in one place."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from . import _core

LogitsProcessor = Callable[[list[int], "_core.F32"], "_core.F32 | None"]
"""(token ids so far, logits (V,) after the processors) -> logits to go on with; None: the array as it was changed."""


def _check_type(name: str, value: object, kind: type) -> None:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if name in ("seed", "top_logprobs"):
        fine, wanted = value is None or is_int, "an integer or None"
    elif name == "max_time":
        fine, wanted = value is None or is_int or isinstance(value, float), "a number of seconds or None"
    elif name == "early_stopping":
        fine, wanted = isinstance(value, bool) or value == "never", "True, False or 'never'"
    elif name == "stop_strings":
        strings = isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)
        fine, wanted = value is None or isinstance(value, str) or strings, "a string, a list of strings or None"
    elif name == "logits_processor":
        fine, wanted = value is None or callable(value), "a function of (token ids, logits) or None"
    elif kind is bool:
        fine, wanted = isinstance(value, bool), "True or False"
    elif kind is int:
        fine, wanted = is_int, "an integer"
    elif kind is float:
        fine, wanted = is_int or isinstance(value, float), "a number"
    else:
        fine = value is None or is_int or (
            isinstance(value, (list, tuple)) and all(isinstance(id_, int) for id_ in value)
        )
        wanted = "a token id, a list of token ids or None"
    if not fine:
        raise TypeError(f"{name} must be {wanted}, but is {value!r}.")


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """Generation arguments under Hugging Face's names and with its meaning; immutable.

    The defaults are plain greedy decoding. `top_k=50` holds, as in transformers, once `do_sample` is True;
    `eos_token_id=None` means the model's own, `seed=None` a fresh one for every call.
    TypeError for a value of the wrong type, ValueError for one out of range.
    """

    max_new_tokens: int = 64
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    num_return_sequences: int = 1
    stop_strings: str | Sequence[str] | None = None
    max_time: float | None = None
    top_logprobs: int | None = None
    logits_processor: LogitsProcessor | None = None
    eos_token_id: int | Sequence[int] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), type(field.default))
        self._check_sizes()
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be 1 or more, but is {self.max_new_tokens}.")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens must be at most max_new_tokens ({self.max_new_tokens}), "
                f"but is {self.min_new_tokens}."
            )
        for name in ("num_beams", "num_beam_groups", "num_return_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, but is {getattr(self, name)}.")
        self._check_beams()
        if self.logits_processor is not None and self.top_logprobs is not None:
            raise ValueError("top_logprobs tells nothing about a logits_processor's choice; leave one of them out.")
        for name in ("max_time", "top_logprobs"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be 0 or more, but is {value}.")
        if "" in self.stopping_strings:
            raise ValueError("stop_strings must not hold an empty string: every text ends with it.")
        if self.seed is not None and not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed must be from 0 to 2**64 - 1, but is {self.seed}.")
        self.sampling(eos_token_ids=(), seed=0, reply_start=0, penalty_start=0)

    @property
    def stopping_strings(self) -> tuple[str, ...]:
        """`stop_strings` as a tuple."""
        if self.stop_strings is None:
            return ()
        return (self.stop_strings,) if isinstance(self.stop_strings, str) else tuple(self.stop_strings)

    def _check_beams(self) -> None:
        if self.num_beams == 1:
            if self.num_return_sequences > 1 and not self.do_sample:
                raise ValueError(
                    f"num_return_sequences={self.num_return_sequences} needs do_sample=True or as many num_beams: "
                    "greedy decoding has one outcome."
                )
            if self.num_beam_groups > 1:
                raise ValueError(f"num_beam_groups={self.num_beam_groups} needs as many num_beams or more.")
            return
        if self.do_sample:
            raise ValueError(f"num_beams={self.num_beams} needs do_sample=False; beam search does not draw.")
        if self.logits_processor is not None or self.top_logprobs is not None:
            raise ValueError("logits_processor and top_logprobs do not go with beam search; use num_beams=1.")
        if self.num_return_sequences > self.num_beams:
            raise ValueError(
                f"num_return_sequences must be at most num_beams ({self.num_beams}), "
                f"but is {self.num_return_sequences}."
            )
        if self.num_beams % self.num_beam_groups:
            raise ValueError(
                f"num_beams ({self.num_beams}) must be a multiple of num_beam_groups, "
                f"but that is {self.num_beam_groups}."
            )
        if not self.diversity_penalty >= 0:
            raise ValueError(f"diversity_penalty must be 0 or more, but is {self.diversity_penalty}.")

    def _check_sizes(self) -> None:
        """Python's integers have no end, but those of the core have."""
        ids = [("eos_token_id", id_) for id_ in self.eos_token_ids(())]
        counts = [(name, getattr(self, name)) for name in ("top_k", "no_repeat_ngram_size", "min_new_tokens")]
        for name, value in [*ids, *counts]:
            if not -(2**31) <= value < 2**31:
                raise ValueError(f"{name} must be below 2**31, but is {value}.")
        for name in ("temperature", "top_p", "repetition_penalty"):
            value = getattr(self, name)
            if isinstance(value, int) and abs(value) > 2**1000:
                raise ValueError(f"{name} must fit into a float, but has {value.bit_length()} bits.")

    def sampling(
        self, *, eos_token_ids: Sequence[int], seed: int, reply_start: int, penalty_start: int
    ) -> _core.Sampling:
        """The core's form of these rules for one reply; ValueError for a value out of range."""
        return _core.Sampling(
            do_sample=self.do_sample,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            no_repeat_ngram_size=self.no_repeat_ngram_size,
            min_new_tokens=self.min_new_tokens,
            eos_token_ids=list(eos_token_ids),
            seed=seed,
            reply_start=reply_start,
            penalty_start=penalty_start,
        )

    def eos_token_ids(self, default: Sequence[int]) -> tuple[int, ...]:
        """The ids that end a reply: this config's, or the model's `default`."""
        if self.eos_token_id is None:
            return tuple(default)
        return (self.eos_token_id,) if isinstance(self.eos_token_id, int) else tuple(self.eos_token_id)


ARGUMENTS = frozenset(field.name for field in dataclasses.fields(GenerationConfig))

GREEDY = GenerationConfig()

# What a conversation needs to stay alive: greedy DialoGPT falls into loops (microsoft/DialoGPT #45) and silence (#84).
CHAT = GenerationConfig(
    do_sample=True, temperature=0.8, top_k=50, top_p=0.9, no_repeat_ngram_size=3, min_new_tokens=1
)


def override(base: GenerationConfig, arguments: dict[str, Any]) -> GenerationConfig:
    """`base` with the caller's arguments; TypeError names the nearest known argument for an unknown one.

    `do_sample=False` on a sampling base is plain greedy decoding, as transformers does it: of the base's rules
    only the lengths and end-of-text stay, the others hold when they are named again.
    """
    for name in arguments:
        if name not in ARGUMENTS:
            near = difflib.get_close_matches(name, ARGUMENTS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(ARGUMENTS))}."
            raise TypeError(f"There is no generation argument {name!r}; {hint}")
    if arguments.get("do_sample") is False and base.do_sample:
        base = dataclasses.replace(
            GREEDY, max_new_tokens=base.max_new_tokens, eos_token_id=base.eos_token_id, seed=base.seed
        )
    return dataclasses.replace(base, **arguments)


def fresh_seed() -> int:
    """A seed from the operating system."""
    return int.from_bytes(os.urandom(8), "little")


def derived_seed(seed: int, *counters: int) -> int:
    """A seed for one turn of a conversation that began with `seed`."""
    text = ":".join(map(str, (seed, *counters))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
