"""Do many long conversations stay good, at what cost, and are they the same however they are run?

The other side speaks lines of recorded dialogues, and many sessions run at once, in the same batches. No reply may be
empty, none may be the bot's previous one, and no prompt may outgrow its window; a hash of all replies tells whether
threads or batches change one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dialocpp.chat.guards import is_blank, key_of
from dialocpp.chat.reply import Reply
from dialocpp.chat.session import ChatSession
from dialocpp.model import Model

from .dialogue_files import SAMPLE, read_dialogues

_ENDED = object()


@dataclass
class Tally:
    """What was seen in all conversations together."""

    conversations: int = 0
    replies: int = 0
    tokens: int = 0
    generated_tokens: int = 0
    fresh_tokens: int = 0
    recomputed_tokens: int = 0
    prepared_tokens: int = 0
    retries: int = 0
    fallbacks: int = 0
    cut: int = 0
    drops: int = 0
    longest_prompt: int = 0
    faults: list[str] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)

    def add(self, session: ChatSession, replies: Sequence[Reply], number: int) -> None:
        """Check and count one conversation."""
        self.conversations += 1
        self.digests[number] = _digest(replies)
        for turn, reply in enumerate(replies):
            usage = reply.usage
            self.replies += 1
            self.tokens += usage.completion_tokens
            self.generated_tokens += usage.generated_tokens
            self.fresh_tokens += usage.fresh_tokens
            self.recomputed_tokens += usage.recomputed_tokens
            self.prepared_tokens += usage.prepared_tokens
            self.retries += reply.retries
            self.fallbacks += reply.finish_reason == "fallback"
            self.cut += reply.finish_reason == "guard"
            self.drops += reply.dropped_turns > 0
            self.longest_prompt = max(self.longest_prompt, usage.prompt_tokens)
            for fault in _faults(session, replies, turn):
                self.faults.append(f"conversation {number}, turn {turn}: {fault}")

    @property
    def digest(self) -> str:
        """One hash of all replies, whatever the order in which the conversations ended."""
        return hashlib.sha256("".join(self.digests[n] for n in sorted(self.digests)).encode()).hexdigest()[:16]

    def figures(self) -> dict[str, Any]:
        """Sums, and means for each reply."""
        counts = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        means = {
            f"{name}_per_turn": round(getattr(self, name) / max(1, self.replies), 3)
            for name in ("tokens", "generated_tokens", "fresh_tokens", "recomputed_tokens", "retries")
        }
        return counts | means | {"faults": len(self.faults), "digest": self.digest}


def _digest(replies: Sequence[Reply]) -> str:
    said = [(reply.token_ids, reply.text, reply.finish_reason, reply.seed) for reply in replies]
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _faults(session: ChatSession, replies: Sequence[Reply], turn: int) -> Iterator[str]:
    reply, model = replies[turn], session.model
    if is_blank(reply.text):
        yield "the reply is empty"
    if turn and key_of(reply.text) == key_of(replies[turn - 1].text):
        yield f"the bot says again {reply.text!r}"
    if reply.usage.prompt_tokens + len(reply.token_ids) > model.config.n_positions + 1:
        yield "the model's positions are exceeded"
    tokens = session.settings.history_tokens(session.generation_config, model.config.n_positions)
    message = len(model.tokenizer.encode(session.history[2 * turn]["content"])) + 1
    if reply.usage.prompt_tokens > session.pinned_tokens + max(tokens, message):
        yield f"{reply.usage.prompt_tokens} tokens exceed the window of {tokens}"


def read_lines(path: Path | None) -> list[list[str]]:
    """The turns of each dialogue: of a file, of a folder's *.test.jsonl[.xz], or of the bundled sample."""
    if path is None:
        path = SAMPLE
    files = sorted([*path.glob("*.test.jsonl"), *path.glob("*.test.jsonl.xz")]) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: expected files named *.test.jsonl or *.test.jsonl.xz, found none; name one file.")
    return [turns for file in files for turns in read_dialogues(file)]


def messages(dialogues: Sequence[Sequence[str]], number: int, turns: int) -> list[str]:
    """What the other side says in conversation `number`: the even turns of dialogues drawn by that number."""
    rng, lines = random.Random(number), list[str]()
    while len(lines) < turns:
        lines += [line for line in rng.choice(dialogues)[::2] if line.strip() and len(line) < 400]
    return lines[:turns]


def converse(
    model: Model,
    dialogues: Sequence[Sequence[str]],
    number: int,
    turns: int,
    tally: Tally,
    prepare: bool,
    **settings: Any,
) -> Iterator[None]:
    """One conversation; pauses after every piece, so that others can go on."""
    session = ChatSession(model, seed=number, **settings)
    replies = []
    for line in messages(dialogues, number, turns):
        stream = session.stream(line)
        for _ in stream:
            yield
        replies.append(stream.reply)
        if prepare:
            session.prepare()
    tally.add(session, replies, number)


def simulate(
    model: Model,
    dialogues: Sequence[Sequence[str]],
    conversations: int,
    turns: int = 30,
    batch: int = 16,
    prepare: bool = False,
    **settings: Any,
) -> Tally:
    """All conversations, `batch` of them at a time: whoever waits for a token runs the next step for all."""
    tally = Tally()
    waiting = (converse(model, dialogues, n, turns, tally, prepare, **settings) for n in range(conversations))
    lanes = list(islice(waiting, batch))
    while lanes:
        ended = [lane for lane in lanes if next(lane, _ENDED) is _ENDED]
        lanes = [lane for lane in lanes if lane not in ended] + list(islice(waiting, len(ended)))
    return tally
