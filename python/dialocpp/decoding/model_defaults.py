"""What does a model's generation_config.json ask for, and what is left of it beside a caller's arguments?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dialocpp.errors import brief

from .argument_forms import FORMS, TOKEN_FORMS
from .generation_config import GREEDY, GenerationConfig, explicit

# What is obeyed, under transformers' names; a rule comes after those that it depends on.
_OBEYED = (
    *("max_new_tokens", "num_beams", "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff", "repetition_penalty", "no_repeat_ngram_size"),
    *("bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens", "forced_eos_token_id"),
    *("length_penalty", "early_stopping", "num_beam_groups", "diversity_penalty", "num_return_sequences"),
    *("stop_strings", "max_time", "eos_token_id"),
)
_LENGTHS = ("max_length", "min_length", "min_new_tokens")  # max_length and min_length count the prompt too

# What would change a reply in transformers, and does not here -> the values with which it changes nothing there.
_NOT_OBEYED: dict[str, tuple[Any, ...]] = {
    "exponential_decay_length_penalty": (None,),
    "encoder_repetition_penalty": (None, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "forced_bos_token_id": (None,),
    "guidance_scale": (None, 1.0),
    "top_h": (None,),
    "penalty_alpha": (None, 0.0),
    "dola_layers": (None,),
    "watermarking_config": (None,),
    "constraints": (None,),
    "force_words_ids": (None,),
    "token_healing": (None, False),
}


@dataclass(frozen=True)
class ModelDefaults:
    """The file's settings. What it says wrongly is left out, and `problems` says what that was.

    `config`: plain greedy decoding with what the file sets. The lengths are kept apart, for they depend on the prompt
    and give way to a caller's.
    """

    config: GenerationConfig = GREEDY
    max_length: int | None = None
    min_length: int | None = None
    min_new_tokens: int | None = None
    says: Mapping[str, Any] = field(default_factory=dict)
    """What is obeyed of the file, as it stands there."""
    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any], vocab_size: int) -> ModelDefaults:
        """From the file's content. Names that mean nothing to transformers are passed over, as there."""
        config, lengths, says, problems = GREEDY, dict[str, int](), dict[str, Any](), list[str]()
        for name in (*_LENGTHS, *_OBEYED):
            value = values.get(name)
            if value is None or (value == -1 and name == "eos_token_id"):
                continue
            try:
                if name in _LENGTHS:
                    lengths[name] = _length(name, value)
                else:
                    changed = dataclasses.replace(config, **{name: value})
                    changed.check_token_ids(vocab_size)
                    config = changed
            except (TypeError, ValueError) as error:
                problems.append(str(error).split(";")[0])
            else:
                says[name] = value
        unknown = [name for name, off in _NOT_OBEYED.items() if values.get(name) not in off]
        problems += [f"expected no {name}, which does not exist here, found {brief(values[name])}" for name in unknown]
        return cls(config, **lengths, says=says, problems=tuple(problems))

    @property
    def token_rules(self) -> dict[str, Any]:
        """What names tokens that may or must not come, but for the end-of-text: this much holds in a session too."""
        rules = {name: getattr(self.config, name) for name in TOKEN_FORMS}
        return {name: rule for name, rule in rules.items() if rule is not None}

    def for_prompts(self, arguments: dict[str, Any], lengths: Sequence[int]) -> list[GenerationConfig]:
        """The config for each prompt of so many tokens, with a caller's arguments on top, as in transformers.

        TypeError or ValueError for a bad argument, ValueError for a prompt that is longer than the file's max_length.
        """
        given = explicit(arguments)
        beams = given.get("num_beams")
        if isinstance(beams, int) and beams > 1:
            given = {"do_sample": False} | given  # who asks for beams does not ask for the file's sampling
        bounded = self.max_length is not None and given.get("max_new_tokens") is None
        bounded = bounded and ("max_new_tokens" in given or "max_new_tokens" not in self.says)
        room = {"max_new_tokens": self.max_length} if bounded else {}
        config = dataclasses.replace(self.config, **(given | room))
        if "min_new_tokens" in given:
            return [self._fitted(config, tokens, bounded, config.min_new_tokens, None) for tokens in lengths]
        return [self._fitted(config, tokens, bounded, self.min_new_tokens, self.min_length) for tokens in lengths]

    def _fitted(
        self, config: GenerationConfig, tokens: int, bounded: bool, least: int | None, min_length: int | None
    ) -> GenerationConfig:
        """The config after a prompt of so many tokens. `bounded`: by max_length."""
        longest = config.max_new_tokens - tokens if bounded else config.max_new_tokens
        if longest < 1:
            raise ValueError(
                f"expected a prompt below max_length={config.max_new_tokens} of the model's generation_config.json, "
                f"found {tokens} tokens; give max_new_tokens, which wins"
            )
        least = max(0, (min_length or 0) - tokens) if least is None else least
        return dataclasses.replace(config, max_new_tokens=longest, min_new_tokens=min(least, longest))


def _length(name: str, value: Any) -> int:
    length: int = FORMS["max_new_tokens"](name, value)
    least = 1 if name == "max_length" else 0
    if not least <= length < 2**31:
        raise ValueError(f"expected {name} to be from {least} to 2**31 - 1, found {length}")
    return length

