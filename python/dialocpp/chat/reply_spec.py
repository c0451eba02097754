"""What does a reply depend on, beside the model? Everything that is fixed before the first token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from dialocpp.decoding.generation_config import CHAT, GenerationConfig
from dialocpp.decoding.seeds import derived_seed
from dialocpp.prompt.turns import Turn
from dialocpp.text.words import words_of_list

from .config import ChatConfig
from .guards import Guard
from .history import Draft
from .ranking import Ranking

# Of `max_time`, what candidates may take when they are ranked afterwards: ranking reads each of them once more.
_DRAWING = 0.7


@dataclass(frozen=True)
class ReplySpec:
    """All that a reply depends on, beside the model: the message with what the model sees of the turns before it, the
    rules by which tokens are chosen, and those by which the reply is."""

    draft: Draft
    config: GenerationConfig
    seed: int
    guard: Guard
    num_candidates: int
    max_retries: int
    ranking: Ranking
    fallback: Sequence[str]

    @classmethod
    def of(
        cls,
        draft: Draft,
        config: GenerationConfig,
        settings: ChatConfig,
        *,
        seed: int,
        ranking: Ranking | None = None,
        end_token_ids: tuple[int, ...] = (),
        nameless_ids: tuple[int, ...] = (),
    ) -> ReplySpec:
        """By a session's settings. `end_token_ids`: what ends a reply where the config does not say; empty: the model's
        own. `nameless_ids` stand for no token, so none of them is ever drawn."""
        if config.eos_token_id is None and end_token_ids:
            config = dataclasses.replace(config, eos_token_id=end_token_ids)
        if nameless_ids:
            config = dataclasses.replace(config, suppress_tokens=(*(config.suppress_tokens or ()), *nameless_ids))
        guard = Guard.against(
            draft.visible[:-1],
            message=draft.turns[-1].content,
            previous=draft.previous,
            empty=settings.guards_empty(config),
            echo=settings.guards_echo(config),
            reply_filter=settings.reply_filter,
        )
        return cls(
            draft=draft,
            config=config,
            seed=seed,
            guard=guard,
            num_candidates=settings.num_candidates if config.do_sample else 1,
            max_retries=settings.max_retries,
            ranking=Ranking() if ranking is None else ranking,
            fallback=settings.fallback,
        )

    @property
    def prompt(self) -> list[int]:
        """The ids that the reply follows on."""
        return self.draft.prompt

    @property
    def context(self) -> Sequence[Turn]:
        """The turns that the model sees, the message last."""
        return self.draft.visible

    @property
    def streams(self) -> bool:
        """Can text be shown before the reply is complete?"""
        one = self.num_candidates == 1 and self.config.num_beams == 1
        return one and not self.ranking and self.guard.accepts is None

    @property
    def asks_functions(self) -> bool:
        """Are candidates judged by more than their text: by rankers or by a caller's own filter?"""
        return bool(self.ranking) or self.guard.accepts is not None

    @property
    def drawing_time(self) -> float | None:
        """Seconds from the beginning in which tokens may be drawn; None: no limit."""
        limit = self.config.max_time
        return None if limit is None else limit * (_DRAWING if self.ranking else 1.0)

    def may_say(self, phrase: str) -> bool:
        """Does a text that no model wrote obey `stop_strings`, `bad_words` and the filter, as a model's must?"""
        if any(string in phrase for string in self.config.stopping_strings):
            return False
        if self.config.bad_words and words_of_list(tuple(self.config.bad_words)).found(phrase):
            return False
        return self.guard.accepts is None or self.guard.accepts(phrase) is not False

    def attempt(self, retry: int) -> GenerationConfig:
        """The rules of an attempt. Greedy decoding would only say the same again, so after it the reply is drawn."""
        if retry == 0 or self.config.do_sample:
            return self.config
        return dataclasses.replace(
            self.config,
            do_sample=True,
            num_beams=1,
            num_beam_groups=1,
            num_return_sequences=1,
            temperature=CHAT.temperature,
            top_k=CHAT.top_k,
            top_p=CHAT.top_p,
            no_repeat_ngram_size=CHAT.no_repeat_ngram_size,
        )

    def seed_of(self, retry: int, index: int) -> int:
        """The seed of a candidate; the first one's is the reply's own."""
        return self.seed if retry == index == 0 else derived_seed(self.seed, retry, index)
