"""Do a thousand long conversations stay good, at what cost, and are they the same however they are run?

The other side speaks lines of the test dialogues (--dialogues FOLDER of *.test.jsonl.xz), or of the bundled sample.
Many sessions run at once, in the same batches. No reply may be empty, none may be the bot's previous one, and no
prompt may outgrow its window; --compare runs everything with 1 and 2 threads, alone and in batches, and compares a
hash of all replies. A JSON line tells the figures.

    python bench/conversations.py --dialogues ../shared/data/dialogues --conversations 1000 --compare
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dialocpp import ChatSession, Model, Reply
from dialocpp.chat.guards import is_blank, key_of
from dialocpp.evaluation.dialogue_files import SAMPLE

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


def read_lines(folder: Path | None) -> list[list[str]]:
    """The turns of each dialogue: of the folder's test splits, or of the bundled sample."""
    if folder is None:
        return [json.loads(row)["turns"] for row in SAMPLE.read_text(encoding="utf-8").splitlines()]
    found = []
    for path in sorted(folder.glob("*.test.jsonl.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            found += [json.loads(row)["turns"] for row in file]
    if not found:
        raise SystemExit(f"{folder} holds no *.test.jsonl.xz.")
    return found


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--dialogues", type=Path)
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--candidates", type=int, default=1)
    parser.add_argument("--prepare", action="store_true", help="read again in idle time, not within the turn")
    parser.add_argument("--compare", action="store_true", help="with 1 and 2 threads, in batches of 1 and 16")
    arguments = parser.parse_args()
    dialogues = read_lines(arguments.dialogues)
    ways = [(t, b) for t in (1, 2) for b in (1, 16)] if arguments.compare else [(arguments.threads, arguments.batch)]
    tallies = []
    for threads, batch in ways:
        model = Model.from_pretrained(arguments.model, num_threads=threads)
        start = time.perf_counter()
        tally = simulate(
            model,
            dialogues,
            arguments.conversations,
            arguments.turns,
            batch,
            arguments.prepare,
            num_candidates=arguments.candidates,
        )
        seconds = time.perf_counter() - start
        speed = {"seconds": round(seconds, 2), "tokens_per_s": round(tally.generated_tokens / seconds)}
        print(json.dumps({"threads": model.num_threads, "batch": batch, **speed, **tally.figures()}), flush=True)
        tallies.append(tally)
    faults = [fault for tally in tallies for fault in tally.faults]
    if len({tally.digest for tally in tallies}) > 1:
        faults.append("threads or batches change what is said")
    sys.exit("\n".join(faults[:20]) if faults else 0)


if __name__ == "__main__":
    main()
