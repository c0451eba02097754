"""Which models can say how good a reply is? A reverse model, the model itself, and DialogRPT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dialocpp.engine.scoring import score_after, score_texts
from dialocpp.model import Model
from dialocpp.prompt.turns import Turn

from .reply import Candidate


@dataclass(frozen=True)
class MMI:
    """log P(source | reply) by a reverse model: does the reply tell what was said before it?

    Maximum mutual information, as in DialoGPT's paper (arXiv:1911.00536, section 3.2). The reverse model was trained on
    dialogues with their turns in reverse order. The source is the last `source_turns` turns of the context.
    """

    reverse: Model
    source_turns: int = 1
    name: str = "mmi"

    def __post_init__(self) -> None:
        self.reverse.runtime.check_writes()

    def score(self, context: Sequence[Turn], candidates: Sequence[Candidate]) -> list[float]:
        """One log-probability for each candidate; all are read in one batch."""
        tokenizer, eos = self.reverse.tokenizer, self.reverse.tokenizer.eos_token_id
        room = self.reverse.n_positions - 2
        source: list[int] = []
        for turn in reversed(context[-self.source_turns :]):
            source += [*tokenizer.encode(turn.content)[: room // 2], eos]
        source = source[: room // 2]
        texts = []
        for candidate in candidates:
            reply = tokenizer.encode(candidate.text)[: room - len(source)]
            texts.append(([*reply, eos], source))
        return [sum(row) for row in score_texts(self.reverse.runtime, texts)]


@dataclass(frozen=True)
class AntiLM:
    """log P(reply | context) − weight · log P(the reply's first tokens), by the model that speaks.

    Li et al. 2016 (arXiv:1510.03055, section 4.5.1): what is probable after anything is no answer to this. Only the
    first `tokens` are held against a reply, for with more of them its grammar would suffer. Needs no second model.
    """

    model: Model
    weight: float = 0.5
    tokens: int = 5
    name: str = "antilm"

    def score(self, context: Sequence[Turn], candidates: Sequence[Candidate]) -> list[float]:
        """One number for each candidate; the context is read once."""
        eos = self.model.tokenizer.eos_token_id
        prompt = [token for turn in context for token in (*self.model.tokenizer.encode(turn.content), eos)]
        replies = [[*candidate.token_ids, eos] for candidate in candidates]
        longest = max(map(len, replies), default=0)
        prompt = prompt[-max(1, self.model.n_positions - longest) :]
        given = score_after(self.model.runtime, prompt, replies)
        alone = score_after(self.model.runtime, [eos], [reply[: self.tokens] for reply in replies])
        return [sum(mine) - self.weight * sum(bare) for mine, bare in zip(given, alone, strict=True)]


@dataclass(frozen=True)
class DialogRPT:
    """How people would vote for the reply, from 0 to 1, by a microsoft/DialogRPT model (arXiv:2009.06978)."""

    model: Model
    name: str = "dialogrpt"

    def score(self, context: Sequence[Turn], candidates: Sequence[Candidate]) -> list[float]:
        """One probability for each candidate; old turns are left out where the model has no room for them."""
        lengths = [len(self.model.tokenizer.encode(turn.content)) + 1 for turn in context]
        longest = max((len(self.model.tokenizer.encode(candidate.text)) for candidate in candidates), default=0)
        first = 0
        while first < len(context) - 1 and sum(lengths[first:]) + longest > self.model.n_positions:
            first += 1
        texts = [turn.content for turn in context[first:]]
        return self.model.rank(texts, [candidate.text for candidate in candidates])
