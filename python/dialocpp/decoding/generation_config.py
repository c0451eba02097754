"""How shall tokens be chosen? Every generation argument with its default, in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from dialocpp import _core

from .argument_forms import FORMS, TOKEN_FORMS, Bias
from .other_names import refuse_unknown
from .scalars import plain

LogitsProcessor = Callable[[list[int], "_core.F32"], "_core.F32 | None"]
"""(token ids so far, logits (V,) after the processors) -> logits to go on with; None: the array as it was changed."""


# Results, beams and candidates of one prompt: more would take memory for hours and bring nothing.
MOST = 1024


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """Generation arguments under Hugging Face's names and with its meaning; immutable.

    The defaults are plain greedy decoding, and None is the default. `temperature=0` is greedy, whatever `do_sample`
    says. TypeError for a value of the wrong type, ValueError for one out of range.
    What sampling and greedy decoding obey, in the order in which it is applied:

    - `sequence_bias`: `{(id, ...): bias}` or `[[ids, bias], ...]`: added to the logit of the last id where the tokens
      before it are the others (transformers' SequenceBias).
    - `logit_bias`: `{id: bias}`, the same for single tokens (OpenAI's).
    - `repetition_penalty`: divides positive logits of tokens that were used, multiplies negative ones (CTRL, 2019).
    - `presence_penalty`, `frequency_penalty`: taken from the logit of a token that the reply holds, once, and for each
      time it occurs (OpenAI's; -100 to 100). The prompt does not count.
    - `no_repeat_ngram_size`: no n tokens twice (Paulus et al. 2017).
    - `bad_words_ids`: token sequences that never occur (transformers' NoBadWords).
    - `bad_words`: words and phrases that the reply's text never holds, however capitalised, spaced or cut into tokens;
      longer words that contain them may occur (`bad_words.py`).
    - `min_new_tokens`: no end-of-text before.
    - `forced_eos_token_id`: the last token that fits is this one, or one of these (transformers' ForcedEOSToken).
    - `suppress_tokens`, `begin_suppress_tokens`: ids that never occur, or not as the first token (transformers').

    What sampling (`do_sample=True`) draws from, in this order:

    - `temperature`: divides the logits.
    - `top_k`: the k most probable tokens; 0: all. The default of 50 is transformers'.
    - `top_p`: the smallest set of most probable tokens that reaches p (Holtzman et al. 2020).
    - `min_p`: tokens at least p times as probable as the most probable one (Nguyen et al. 2024); 0: off.
    - `typical_p`: tokens whose surprise is nearest to the entropy, until they reach p (Meister et al. 2023).
    - `epsilon_cutoff`: tokens of at least this probability (Hewitt et al. 2022); 0: off.
    - `eta_cutoff`: of at least min(eta, sqrt(eta) * exp(-entropy)) (Hewitt et al. 2022); 0: off.

    - `logits_processor`: a function of (token ids so far, logits (V,)) between the two, which changes the array or
      gives another one. Whatever it raises is its caller's alone. It runs inside a step that all callers of the model
      share, in the thread of any of them: while it works, all others wait, so a slow one slows everybody down. One that
      waits for another thread which uses the same model waits for ever, as that thread waits for this step.

    Beam search (`num_beams` > 1) finds the most probable continuations as a whole, as transformers 5 does:

    - `length_penalty`: a finished beam's score is its log-probability / length ** length_penalty.
    - `early_stopping`: True ends with `num_beams` finished ones, False when a better one is not to be expected, "never"
      when there can be none.
    - `num_beam_groups`, `diversity_penalty`: groups of beams that pay for a token which an earlier group has just taken
      (Vijayakumar et al. 2016).

    And around them: `num_return_sequences` on one reading of the prompt; `max_new_tokens`; `stop_strings`, which end a
    reply and are no part of its text; `max_time`, seconds after which it ends with the next token; `top_logprobs`, how
    many of the most probable tokens to tell beside each chosen one (0: that one's log-probability alone; None: off);
    `eos_token_id`, None for the model's own; `seed`, None for a fresh one a call.
    """

    max_new_tokens: int = 64
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    bad_words: Sequence[str] | None = None
    bad_words_ids: Sequence[Sequence[int]] | None = None
    sequence_bias: Mapping[tuple[int, ...], float] | Sequence[Sequence[Any]] | None = None
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]] | None = None
    suppress_tokens: Sequence[int] | None = None
    begin_suppress_tokens: Sequence[int] | None = None
    forced_eos_token_id: int | Sequence[int] | None = None
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
            value = getattr(self, field.name)
            value = field.default if value is None else FORMS[field.name](field.name, value)
            object.__setattr__(self, field.name, value)
        if self.temperature == 0:
            object.__setattr__(self, "temperature", 1.0)
            object.__setattr__(self, "do_sample", False)
        self._check_sizes()
        if self.max_new_tokens < 1:
            raise ValueError(f"expected max_new_tokens to be 1 or more, found {self.max_new_tokens}; raise it")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"expected min_new_tokens to be at most max_new_tokens ({self.max_new_tokens}), "
                f"found {self.min_new_tokens}; lower it or raise max_new_tokens"
            )
        for name in ("num_beams", "num_beam_groups", "num_return_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} to be 1 or more, found {getattr(self, name)}; raise it")
        self._check_beams()
        if self.logits_processor is not None and self.top_logprobs is not None:
            raise ValueError(
                "expected logits_processor or top_logprobs, found both; leave one out: log-probabilities tell nothing "
                "about a function's choice"
            )
        for name in ("max_time", "top_logprobs"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"expected {name} to be 0 or more, found {value}; raise it or leave it out")
        if "" in self.stopping_strings:
            raise ValueError(
                "expected stop_strings to hold text, found an empty string, with which every text ends; remove it"
            )
        if self.seed is not None and not 0 <= self.seed < 1 << 64:
            raise ValueError(f"expected seed to be from 0 to 2**64 - 1, found {self.seed}; give another one")
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
                    "expected num_return_sequences=1, for greedy decoding has one outcome, "
                    f"found {self.num_return_sequences}; set do_sample=True or as many num_beams"
                )
            if self.num_beam_groups > 1:
                raise ValueError(
                    f"expected num_beam_groups=1 where num_beams is 1, found {self.num_beam_groups}; "
                    "set as many num_beams or more"
                )
            return
        if self.do_sample:
            raise ValueError(
                f"expected do_sample=False with num_beams={self.num_beams}, for beam search does not draw, found True; "
                "leave one of them out"
            )
        if self.logits_processor is not None or self.top_logprobs is not None:
            raise ValueError(
                "expected neither logits_processor nor top_logprobs with beam search, found one of them; "
                "leave it out or use num_beams=1"
            )
        if self.num_return_sequences > self.num_beams:
            raise ValueError(
                f"expected num_return_sequences to be at most num_beams ({self.num_beams}), "
                f"found {self.num_return_sequences}; lower it or raise num_beams"
            )
        if self.num_beams % self.num_beam_groups:
            raise ValueError(
                f"expected num_beams to be a multiple of num_beam_groups ({self.num_beam_groups}), "
                f"found {self.num_beams}; change one of them"
            )
        if not self.diversity_penalty >= 0:
            raise ValueError(
                f"expected diversity_penalty to be 0 or more, found {self.diversity_penalty}; raise it"
            )

    def _check_sizes(self) -> None:
        """Python's integers have no end, but those of the core have."""
        ids = [("eos_token_id", id_) for id_ in self.eos_token_ids(())]
        names = ("top_k", "no_repeat_ngram_size", "min_new_tokens")
        counts = [(name, getattr(self, name)) for name in names]
        for name, value in [*ids, *counts]:
            if not -(2**31) <= value < 2**31:
                raise ValueError(f"expected {name} to be below 2**31, found {value}; lower it")
        for name, most in (("num_beams", MOST), ("num_return_sequences", MOST), ("top_logprobs", 2**20)):
            value = getattr(self, name)
            if value is not None and value > most:
                raise ValueError(f"expected {name} to be at most {most}, found {value}; lower it")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_real = isinstance(field.default, float) or field.name == "max_time"
            if is_real and isinstance(value, int) and abs(value) > 2**1000:
                raise ValueError(
                    f"expected {field.name} to fit into a float, found a number of {value.bit_length()} bits; lower it"
                )

    def sampling(
        self,
        *,
        eos_token_ids: Sequence[int],
        seed: int,
        reply_start: int,
        penalty_start: int,
        max_length: int = 0,
        banned_ids: Sequence[int] = (),
    ) -> _core.SamplingParams:
        """The core's form of these rules for one reply; ValueError for a value out of range.

        `max_length`: tokens that prompt and reply have at most; `banned_ids`: those that `bad_words` bans everywhere.
        """
        rules: dict[str, Any] = {name: getattr(self, name) for name in _CORE_RULES}
        ends = [(id_,) for id_ in eos_token_ids]  # as transformers: end-of-text alone is no bad word
        return _core.SamplingParams(
            **rules,
            sequence_bias=self._biases(),
            bad_words_ids=[word for word in self.bad_words_ids or () if word not in ends],
            suppress_tokens=[*(self.suppress_tokens or ()), *banned_ids],
            begin_suppress_tokens=self.begin_suppress_tokens or (),
            forced_eos_token_ids=_as_ids(self.forced_eos_token_id),
            eos_token_ids=eos_token_ids,
            seed=seed,
            reply_start=reply_start,
            penalty_start=penalty_start,
            max_length=max_length,
        )

    def check_token_ids(self, vocab_size: int) -> None:
        """ValueError when a rule that can only be a mistake names a token that this vocabulary lacks."""
        named: dict[str, list[int]] = {
            "sequence_bias or logit_bias": [id_ for ids, _ in self._biases() for id_ in ids],
            "bad_words_ids": [id_ for ids in self.bad_words_ids or () for id_ in ids],
            "forced_eos_token_id": list(_as_ids(self.forced_eos_token_id)),
        }
        for name, ids in named.items():
            if ids and max(ids) >= vocab_size:
                raise ValueError(
                    f"expected {name} to hold token ids below {vocab_size} (the vocabulary), found {max(ids)}; "
                    "remove it"
                )

    def _biases(self) -> list[Bias]:
        """Of sequences and of single tokens."""
        sequences = cast(tuple[Bias, ...], self.sequence_bias or ())
        tokens = cast(tuple[tuple[int, float], ...], self.logit_bias or ())
        return [*sequences, *(((id_,), bias) for id_, bias in tokens)]

    def eos_token_ids(self, default: Sequence[int]) -> tuple[int, ...]:
        """The ids that end a reply: this config's, or the model's `default`."""
        return tuple(default) if self.eos_token_id is None else _as_ids(self.eos_token_id)


def _as_ids(value: int | Sequence[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


# The rules that the core takes as they stand.
_CORE_RULES = (
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "no_repeat_ngram_size",
    "min_new_tokens",
)

ARGUMENTS = frozenset(field.name for field in dataclasses.fields(GenerationConfig))

GREEDY = GenerationConfig()

# What a conversation needs to stay alive: greedy DialoGPT falls into loops (microsoft/DialoGPT #45) and silence (#84).
CHAT = GenerationConfig(
    do_sample=True, temperature=0.8, top_k=50, top_p=0.9, no_repeat_ngram_size=3, min_new_tokens=1
)


# What `do_sample=False` leaves of a sampling preset.
KEPT_BY_GREEDY = (
    "max_new_tokens",
    "eos_token_id",
    "seed",
    "stop_strings",
    "max_time",
    "top_logprobs",
    "logits_processor",
    *TOKEN_FORMS,
)


def override(base: GenerationConfig, arguments: dict[str, Any]) -> GenerationConfig:
    """`base` with the caller's arguments; TypeError says for an unknown one what to do instead.

    None takes the base's rule away, as in transformers. `do_sample=False` on a sampling base is plain greedy decoding:
    of the base's rules those in `KEPT_BY_GREEDY` stay (length, end-of-text, limits, and whatever names tokens or words:
    what was banned stays banned), the others, which tune sampling, hold when they are named again. So is
    `temperature=0`.
    """
    arguments = explicit(arguments)
    if arguments.get("do_sample") is False and base.do_sample:
        base = dataclasses.replace(GREEDY, **{name: getattr(base, name) for name in KEPT_BY_GREEDY})
    return dataclasses.replace(base, **arguments)


def explicit(arguments: dict[str, Any]) -> dict[str, Any]:
    """What a caller's arguments ask for on top of any config: with the value that None and `temperature=0` stand for.

    TypeError for an unknown one.
    """
    refuse_unknown(arguments, ARGUMENTS)
    given = {name: plain(value) for name, value in arguments.items()}
    meant = {name: _NOT_SET.get(name) if value is None else value for name, value in given.items()}
    if type(meant.get("temperature")) in (int, float) and meant["temperature"] == 0:
        meant |= {"temperature": 1.0, "do_sample": False}
    return meant


# What None stands for where it is not GenerationConfig's default: without a top_k, all tokens are drawn from.
_NOT_SET = {"top_k": 0, "do_sample": False}
