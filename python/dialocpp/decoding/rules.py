"""What holds for one reply, drawn up from a config, the tokenizer and the model's numbers before its first token?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dialocpp import _core
from dialocpp.text.reply_text import ReplyEnd
from dialocpp.text.tokenizer import Tokenizer

from .bad_words import bad_words
from .generation_config import GenerationConfig, LogitsProcessor


@dataclass(frozen=True, eq=False)
class Rules:
    """How the tokens after one prompt are chosen, and what ends them."""

    sampling: _core.SamplingParams
    max_new_tokens: int
    n_positions: int
    eos_token_ids: tuple[int, ...]
    bans: Callable[[list[int]], Sequence[int]] | None = None
    """Tokens that may not follow these of the reply, beside those that `sampling` bans."""
    stops: Callable[[list[int]], bool] | None = None
    """Does this reply end here, other than by end-of-text?"""
    processor: LogitsProcessor | None = None
    top_logprobs: int = -1
    max_time: float | None = None
    """Seconds from the job's submission; the token after them is the last."""

    @classmethod
    def of(
        cls,
        config: GenerationConfig,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        *,
        eos_token_ids: Sequence[int],
        n_positions: int,
        vocab_size: int,
        seed: int,
        penalty_start: int,
    ) -> Rules:
        """The config's rules after this prompt. `eos_token_ids`: the model's, where the config names none.

        ValueError for a rule about a token that a vocabulary of `vocab_size` lacks.
        """
        config.check_token_ids(vocab_size)
        ends = config.eos_token_ids(eos_token_ids)
        banned = bad_words(tokenizer, config.bad_words) if config.bad_words else None
        sampling = config.sampling(
            eos_token_ids=ends,
            seed=seed,
            reply_start=len(prompt),
            penalty_start=penalty_start,
            # The last token needs no position of its own: no step appends it.
            max_length=min(len(prompt) + config.max_new_tokens, n_positions + 1),
            banned_ids=banned.always if banned else (),
        )
        return cls(
            sampling,
            config.max_new_tokens,
            n_positions,
            ends,
            bans=banned.bans if banned else None,
            stops=ReplyEnd(tokenizer, config.stopping_strings) if config.stopping_strings else None,
            processor=config.logits_processor,
            top_logprobs=-1 if config.top_logprobs is None else config.top_logprobs,
            max_time=config.max_time,
        )

    def longest(self, prompt_tokens: int) -> int:
        """Tokens that a reply has at most: one more than there are positions left, since the last needs none."""
        return min(self.max_new_tokens, self.n_positions - prompt_tokens + 1)

    def banned_after(self, generated: list[int]) -> Sequence[int]:
        """Tokens that may not follow these of the reply."""
        return self.bans(generated) if self.bans else ()
